//! Kernel channels and the dispatch of FUSE requests.
