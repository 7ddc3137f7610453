//! Puts and copies: one request for what fits one part, a multipart upload for the rest.
//!
//! Every put carries a random name of its own as metadata. When the answer to the last request of a put is
//! lost, the next attempt first looks whether the object bears that name: then it took effect, and a
//! conditional put is not taken for somebody else's.

use super::client::{Object, PartTag};
use super::fault::Fault;
use super::keys::SHADOWED_SUFFIX;
use super::meta::Meta;
use super::tree::{Found, Shared};
use crate::error::{UfsError, UfsResult};
use crate::parts::PartLedger;
use crate::ufs::{ConditionalPut, Expect, PutSpec, Upload};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::{UfsKey, UfsVersion};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The most parts that a file is cut into; below the 10,000 that S3 and Google Cloud Storage take.
const PARTS_MAX: u64 = 9_000;
const MIB: u64 = 1 << 20;

/// The length of the parts of a file of `len` bytes.
fn part_len_for(len: u64, part_len_min: u64) -> u64 {
    len.div_ceil(PARTS_MAX).next_multiple_of(MIB).max(part_len_min)
}

/// A random name for a put.
pub(super) fn put_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The object that a put writes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) object: String,
    /// A directory has its name, and may.
    hidden: bool,
}

impl Target {
    /// The object that a put to `key` writes.
    pub(super) async fn of(shared: &Shared, key: &UfsKey) -> UfsResult<Self> {
        if key.is_root() {
            return Err(UfsError::IsADirectory(key.clone()));
        }
        let object = shared.keys.object(key)?;
        if object.ends_with(SHADOWED_SUFFIX)
            && let Found::File { object: found, .. } = shared.find(key).await?
        {
            return Ok(Self { hidden: found != object, object: found });
        }
        Ok(Self { object, hidden: false })
    }

    /// Whether a put of it as new needs no look: the store refuses it where there is an object, and no directory has the name,
    /// as far as what was seen lately is believed.
    pub(super) async fn is_known_free(&self, shared: &Shared, believed: Duration) -> bool {
        if self.hidden || !shared.client.limits().keeps_conditions {
            return false;
        }
        shared.is_no_directory(&self.object, believed).await
    }

    /// Fails if a directory would hide the object, or if the object is not as expected.
    pub(super) async fn check(&self, shared: &Shared, key: &UfsKey, expect: &Expect) -> UfsResult<()> {
        match self.hidden {
            true => shared.check(key, &self.object, expect).await,
            false => shared.check_around(key, &self.object, expect).await,
        }
    }
}

pub(super) async fn begin(
    shared: &Arc<Shared>,
    key: &UfsKey,
    spec: &PutSpec,
    part_len_min: u64,
) -> UfsResult<Box<dyn Upload>> {
    if spec.len > shared.client.limits().object_len_max {
        return Err(UfsError::TooLarge(key.to_string()));
    }
    let target = Target::of(shared, key).await?;
    let meta = Meta { put: Some(put_name()), ..Meta::from(&spec.attrs) };
    let parts = PartLedger::new(spec.len, part_len_for(spec.len, part_len_min));
    let multipart = match parts.count() {
        0 | 1 => None,
        _ => {
            // What one request puts is looked at just before it; here much would be sent for nothing.
            target.check(shared, key, &spec.expect).await?;
            let begun = shared.client.begin_parts(&target.object, &meta).await;
            let upload = begun.map_err(|fault| fault.at(key))?;
            shared.underway.begun(&upload);
            Some(upload)
        }
    };
    Ok(Box::new(ObjectUpload {
        shared: Arc::clone(shared),
        key: key.clone(),
        target,
        meta,
        spec: spec.clone(),
        parts,
        multipart,
        body: Mutex::default(),
        tags: Mutex::default(),
        fate: Fate::Open,
    }))
}

/// What has become of an upload.
enum Fate {
    Open,
    /// The last request was sent, and nobody knows whether it took effect.
    InDoubt,
    Done(UfsVersion),
    Aborted,
}

/// A put of an object in progress.
struct ObjectUpload {
    shared: Arc<Shared>,
    key: UfsKey,
    target: Target,
    meta: Meta,
    spec: PutSpec,
    parts: PartLedger,
    /// The name of the multipart upload; `None` if one request does.
    multipart: Option<String>,
    /// The content, if one request does.
    body: Mutex<Bytes>,
    /// What the store said of each part.
    tags: Mutex<BTreeMap<u64, PartTag>>,
    fate: Fate,
}

impl ObjectUpload {
    /// Whether the object is of our making, after an answer was lost.
    async fn find_ours(&self) -> UfsResult<Option<UfsVersion>> {
        let found =
            self.shared.client.head(&self.target.object).await.map_err(|fault| fault.at(&self.key))?;
        let ours = |found: &Object| found.meta.put.is_some() && found.meta.put == self.meta.put;
        Ok(found.filter(ours).map(|found| found.version))
    }

    fn done(&mut self, version: &UfsVersion) {
        if let Some(upload) = &self.multipart {
            self.shared.underway.ended(upload);
        }
        self.fate = Fate::Done(version.clone());
    }

    async fn place(&self) -> UfsResult<UfsVersion> {
        let Some(upload) = &self.multipart else {
            let body = self.body.lock().clone();
            return self.shared.put_target(&self.key, &self.target, body, &self.meta, &self.spec).await;
        };
        let (client, object) = (&self.shared.client, &self.target.object);
        let _below = self.shared.dirs_seen.putting(object);
        let checked = client.limits().conditional_put == ConditionalPut::CheckedBefore;
        let _guard = match checked && self.spec.expect != Expect::Any {
            true => Some(self.shared.lock(object).await),
            false => None,
        };
        if checked {
            self.shared.check(&self.key, object, &self.spec.expect).await?;
        }
        let tags: Vec<PartTag> = self.tags.lock().values().cloned().collect();
        match client.complete(object, upload, &tags, &self.meta, &self.spec.expect).await {
            Ok(version) => Ok(version),
            Err(Fault::Missing(_)) => {
                Err(UfsError::Io(format!("{}: the multipart upload is gone from the store", self.key)))
            }
            Err(fault) => Err(fault.about(&self.key, &self.spec.expect)),
        }
    }
}

#[async_trait]
impl Upload for ObjectUpload {
    fn part_len(&self) -> u64 {
        self.parts.part_len()
    }

    async fn part(&self, index: u64, bytes: Bytes) -> UfsResult<()> {
        self.parts.check(index, bytes.len())?;
        match &self.multipart {
            None => *self.body.lock() = bytes,
            Some(upload) => {
                let number = u32::try_from(index + 1).expect("a file has at most PARTS_MAX parts");
                let sent = self.shared.client.put_part(&self.target.object, upload, number, bytes).await;
                let tag = sent.map_err(|fault| match fault {
                    Fault::Missing(_) => UfsError::Io(format!("{}: the multipart upload is gone", self.key)),
                    fault => fault.at(&self.key),
                })?;
                self.tags.lock().insert(index, tag);
            }
        }
        self.parts.record(index);
        Ok(())
    }

    async fn finish(&mut self) -> UfsResult<UfsVersion> {
        match &self.fate {
            Fate::Done(version) => return Ok(version.clone()),
            Fate::Aborted => return Err(UfsError::Invalid(format!("{}: the upload was aborted", self.key))),
            Fate::Open => self.parts.check_complete()?,
            Fate::InDoubt => {
                if let Some(version) = self.find_ours().await? {
                    self.done(&version);
                    return Ok(version);
                }
            }
        }
        let was_in_doubt = matches!(self.fate, Fate::InDoubt);
        self.fate = Fate::InDoubt;
        let placed = match self.place().await {
            // An earlier request, thought lost, may have arrived between our look and this one.
            Err(error) if was_in_doubt && !error.is_transient() => self.find_ours().await?.ok_or(error),
            placed => placed,
        };
        match placed {
            Ok(version) => {
                self.done(&version);
                Ok(version)
            }
            Err(error) => {
                if !error.is_transient() {
                    self.fate = Fate::Open;
                }
                Err(error)
            }
        }
    }

    async fn abort(&mut self) -> UfsResult<()> {
        if matches!(self.fate, Fate::Done(_) | Fate::Aborted) {
            return Ok(());
        }
        *self.body.lock() = Bytes::new();
        if let Some(upload) = &self.multipart {
            let aborted = self.shared.client.abort_parts(&self.target.object, upload).await;
            aborted.map_err(|fault| fault.at(&self.key))?;
            self.shared.underway.ended(upload);
        }
        self.fate = Fate::Aborted;
        Ok(())
    }
}

impl Drop for ObjectUpload {
    fn drop(&mut self) {
        let settled = matches!(self.fate, Fate::Done(_) | Fate::Aborted);
        let Some(upload) = self.multipart.take().filter(|_| !settled) else { return };
        // Without a runtime the parts stay until the bucket's own rule for them sweeps them.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (shared, object) = (Arc::clone(&self.shared), std::mem::take(&mut self.target.object));
        runtime.spawn(async move {
            if let Err(fault) = shared.client.abort_parts(&object, &upload).await {
                tracing::warn!(object, ?fault, "the parts of an aborted upload stay in the store");
            }
            shared.underway.ended(&upload);
        });
    }
}

/// Copies an object within the store.
pub(super) async fn copy(
    shared: &Arc<Shared>,
    from: (&UfsKey, &UfsVersion),
    to: (&UfsKey, &Expect),
    part_len_min: u64,
) -> UfsResult<UfsVersion> {
    let Found::File { object: source, attr } = shared.find(from.0).await? else {
        return Err(UfsError::NotFound(from.0.clone()));
    };
    if attr.version != *from.1 {
        return Err(UfsError::Changed(from.0.clone()));
    }
    let place = Target::of(shared, to.0).await?;
    let target = &place.object;
    let _guard = shared.lock(target).await;
    let _below = shared.dirs_seen.putting(target);
    place.check(shared, to.0, to.1).await?;
    if attr.size > shared.client.limits().copy_len_max {
        let meta = shared.client.head(&source).await.map_err(|fault| fault.at(from.0))?;
        let meta = Meta { put: Some(put_name()), ..meta.map(|found| found.meta).unwrap_or_default() };
        return copy_in_parts(
            shared,
            (&source, from.1, attr.size),
            (to.0, target, to.1),
            &meta,
            part_len_min,
        )
        .await;
    }
    let copied = shared.client.copy((&source, from.1), target, to.1).await;
    copied.map_err(|fault| match fault {
        // What failed is the condition on the source: the target's was looked at before.
        Fault::Precondition => UfsError::Changed(from.0.clone()),
        fault => fault.at(from.0),
    })
}

async fn copy_in_parts(
    shared: &Arc<Shared>,
    from: (&str, &UfsVersion, u64),
    to: (&UfsKey, &str, &Expect),
    meta: &Meta,
    part_len_min: u64,
) -> UfsResult<UfsVersion> {
    let (source, version, len) = from;
    let (key, target, expect) = to;
    let client = &shared.client;
    let upload = client.begin_parts(target, meta).await.map_err(|fault| fault.at(key))?;
    let part_len = part_len_for(len, part_len_min).max(client.limits().copy_len_max / 16);
    let mut tags = Vec::new();
    for (number, start) in (1u32..).zip((0..len).step_by(part_len as usize)) {
        let from = (source, version, start..len.min(start + part_len));
        let part = || async {
            client.copy_part(target, &upload, number, from.clone()).await.map_err(|fault| fault.at(key))
        };
        match shared.one_of_many.repeated(part).await {
            Ok(tag) => tags.push(tag),
            Err(error) => {
                // The first failure says what went wrong; lingering parts are the lesser trouble.
                let _ = client.abort_parts(target, &upload).await;
                return Err(error);
            }
        }
    }
    let completed = client.complete(target, &upload, &tags, meta, expect).await;
    completed.map_err(|fault| fault.about(key, expect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_into_a_bounded_number_of_parts() {
        assert_eq!(part_len_for(0, 8 * MIB), 8 * MIB);
        assert_eq!(part_len_for(72_000 * MIB, 8 * MIB), 8 * MIB);
        assert_eq!(part_len_for(72_000 * MIB + 1, 8 * MIB), 9 * MIB);
        for len in [1u64, 5 << 40, 190 << 40] {
            assert!(len.div_ceil(part_len_for(len, 8 * MIB)) <= PARTS_MAX);
        }
    }
}
