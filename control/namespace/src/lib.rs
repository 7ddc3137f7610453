//! Inodes, dentries, mounts and the home's log.
