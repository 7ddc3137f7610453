//! When the under file system has something else than it should: is it ours after all, and where ours goes if not.

use super::Engine;
use super::carry::Stop;
use super::source::Sent;
use forebay_types::limits::NAME_LEN_MAX;
use forebay_types::{
    Clock, ContentLocation, FileKind, Name, NodeId, PersistTask, PersistWork, SystemClock, UfsAttr, UfsKey,
};
use forebay_ufs::{Expect, PutAttrs, PutSpec, Ufs};
use std::sync::Arc;

/// Bytes compared at a time.
const COMPARE_LEN: u64 = 1 << 20;
/// Other names tried if a conflict name is taken too.
const NAMES_TRIED: u32 = 8;

impl Engine {
    /// Whether what is at `to` has just our bytes: an upload that took effect before its outcome was recorded is
    /// met again like this, and is no conflict. Costs a read of the whole, and happens that seldom.
    pub(super) async fn is_there_already(
        &self,
        ufs: &Arc<dyn Ufs>,
        content: &ContentLocation,
        to: &UfsKey,
    ) -> Result<Option<(UfsAttr, Sent)>, Stop> {
        let Some(there) = self.stat(ufs, to).await? else { return Ok(None) };
        let (mut source, _) = self.open_source(content).await?;
        if there.kind != FileKind::Regular || there.size != source.len() {
            return Ok(None);
        }
        for offset in (0..source.len()).step_by(COMPARE_LEN as usize) {
            let len = COMPARE_LEN.min(source.len() - offset) as usize;
            let ours;
            (source, ours) = self.read_part(source, len).await?;
            let (store, key, version) = (Arc::clone(ufs), to.clone(), there.version.clone());
            let theirs = self.ask(async move {
                let mut bytes = vec![0; len];
                let n = store.read(&key, &version, offset, &mut bytes).await?;
                bytes.truncate(n);
                Ok(bytes)
            });
            if theirs.await? != ours {
                return Ok(None);
            }
        }
        Ok(Some((there, source.into_sent())))
    }

    /// Puts the bytes of a file beside what has its name. Other things have no bytes: theirs just stays.
    pub(super) async fn put_beside(&self, task: &PersistTask) -> Result<Option<UfsKey>, Stop> {
        let PersistWork::Put { content, to, attr, .. } = &task.work else { return Ok(None) };
        let ufs = self.worker.ufs.get(task.mount)?;
        for number in 0..NAMES_TRIED {
            let now = SystemClock.now().secs.max(0) as u64;
            let key = conflict_key(to, &self.config.node, now, number)
                .ok_or_else(|| Stop::Unpersistable("a mount's root is no file".into()))?;
            let (attrs, expect) = (PutAttrs::from(attr), Expect::Absent);
            let spec = PutSpec { len: content.size, attrs, expect, ..PutSpec::default() };
            match self.upload(&ufs, content, &key, spec).await {
                Ok(_) => return Ok(Some(key)),
                Err(Stop::Theirs) => {}
                Err(stop) => return Err(stop),
            }
        }
        Err(Stop::Failed("every name for a conflict copy is taken".into()))
    }
}

/// `<name>.conflict-<node>-<time>`, where the time is UTC; `number` tells copies of one second apart.
fn conflict_key(of: &UfsKey, node: &NodeId, secs: u64, number: u32) -> Option<UfsKey> {
    let (dir, name) = of.split()?;
    let mut suffix = format!(".conflict-{node}-{}", utc(secs));
    if number > 0 {
        suffix.push_str(&format!("-{number}"));
    }
    let keep = name.as_bytes().len().min(NAME_LEN_MAX - suffix.len());
    let name = [&name.as_bytes()[..keep], suffix.as_bytes()].concat();
    let name = Name::new(name).expect("a name with a plain suffix, cut to the longest length, is a name");
    Some(dir.child(&name))
}

/// `20261121T031746Z`.
fn utc(secs: u64) -> String {
    let time = jiff::Timestamp::from_second(secs as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conflict_names_say_who_and_when() {
        let node = NodeId::new("n1").unwrap();
        let key = UfsKey::new(*b"dir/model.pt").unwrap();
        let secs = 1_795_231_066;
        let beside = conflict_key(&key, &node, secs, 0).unwrap();
        assert_eq!(beside.to_string(), "dir/model.pt.conflict-n1-20261121T031746Z");
        let beside = conflict_key(&key, &node, secs, 2).unwrap();
        assert_eq!(beside.to_string(), "dir/model.pt.conflict-n1-20261121T031746Z-2");
        assert_eq!(conflict_key(&UfsKey::root(), &node, secs, 0), None);
    }

    #[test]
    fn the_longest_names_get_one_too() {
        let node = NodeId::new("n".repeat(NodeId::LEN_MAX)).unwrap();
        let key = UfsKey::new(vec![b'x'; NAME_LEN_MAX]).unwrap();
        let beside = conflict_key(&key, &node, 0, 7).unwrap();
        assert_eq!(beside.as_bytes().len(), NAME_LEN_MAX);
        assert!(beside.as_bytes().ends_with(b"-19700101T000000Z-7"));
    }
}
