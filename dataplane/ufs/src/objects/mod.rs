//! Object stores as under file systems.
//!
//! **Owns** the file system that is seen in a flat store of keys ([`tree`], [`list`], [`upload`]), one narrow
//! interface to such a store ([`client`]), and its implementations: [`xml`] (S3 and compatible, and Google
//! Cloud Storage by its XML interface) and [`azure`].
//!
//! **Never does** re-encode a key: the object of `a/b%c` is named `prefix/a/b%c`. Never copies an object to
//! change its attributes. Never shows a credential, a signature or a signed URL.
//!
//! **How it looks from outside:** an object is a file, a common prefix is a directory, an empty directory is
//! an empty object named `dir/`. Where `a` and `a/...` both are, the directory has the name and the object
//! shows as `a.forebay-object`. Mode, owner, time of change and the target of a symbolic link ride as user
//! metadata ([`meta`]).
//!
//! **Why this shape:** the `object_store` crate brings credentials of every kind, their renewal, signing, and
//! the HTTP transport, and those are used. Its `ObjectStore` trait is not: its `Path` cannot name `dir/`, one
//! object named `a//b` fails a whole listing, a multipart upload cannot be made conditional, and parts cannot
//! be copied. See `docs/decisions`.

mod around;
#[cfg(feature = "azure")]
pub(crate) mod azure;
mod bare;
mod client;
mod dirs_seen;
mod dom;
mod fault;
#[cfg(feature = "gcs")]
pub(crate) mod gcs;
mod keys;
mod list;
mod many;
mod meta;
#[cfg(feature = "s3")]
pub(crate) mod s3;
mod settings;
mod sweep;
mod transport;
mod tree;
mod upload;
#[cfg(any(feature = "s3", feature = "gcs"))]
mod xml;
