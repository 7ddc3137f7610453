//! Under file systems behind one trait.
