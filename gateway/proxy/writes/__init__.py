"""Creates, updates, patches and deletes: both versions judged, pinned, and on record before the store hears of them."""
