//! Serves pages to peers and front doors: read, fill, write, persist.
