//! Tiers, extent files, residency, eviction.
