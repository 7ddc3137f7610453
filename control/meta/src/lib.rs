//! MetaStore: the ordered transactional store under the name space.
