"""A staged pipeline from raw text to few-shot scores. Start reading at `__main__.py` and `store/stages.py`."""
