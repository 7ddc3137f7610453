//! One look around a key: is there an object of this name, and is there a directory.
//!
//! Both begin with the name, so the first keys of a listing from there tell of both, version and all: a change that
//! must not hit a directory, or anything but the version it means, asks once and not twice. Between the object `a` and
//! its directory `a/` sort only names like `a-b` and `a.b`; where there are too many of those, the directory is asked
//! for by itself.

use super::client::{KeyPage, ListQuery, Object};
use super::fault::Fault;
use super::tree::Shared;
use crate::error::{UfsError, UfsResult};
use crate::ufs::Expect;
use forebay_types::UfsKey;

/// How many keys are looked at: the object, its directory, and some between them.
const NEIGHBOURS: usize = 4;

/// What has a name.
pub(super) struct Around {
    /// The object, without the metadata that a listing does not tell.
    pub(super) object: Option<Object>,
    /// Whether there is a directory, which hides the object.
    pub(super) is_dir: bool,
}

impl Shared {
    pub(super) async fn around(&self, object: &str) -> Result<Around, Fault> {
        let query = ListQuery { prefix: object, fold: true, after: None, token: None, max: NEIGHBOURS };
        let page = self.client.list(query).await?;
        let is_dir = match says_of_dir(&page, &format!("{object}/")) {
            Some(is_dir) => is_dir,
            None => self.first_below(object).await?.is_some(),
        };
        let found = page.objects.into_iter().find(|(key, _)| key == object);
        Ok(Around { object: found.map(|(_, found)| found), is_dir })
    }

    /// Fails if a directory would hide the object, or if the object is not as expected.
    pub(super) async fn check_around(&self, key: &UfsKey, object: &str, expect: &Expect) -> UfsResult<()> {
        let around = self.around(object).await.map_err(|fault| fault.at(key))?;
        if around.is_dir {
            return Err(UfsError::IsADirectory(key.clone()));
        }
        expect.check(key, around.object.map(|found| found.version).as_ref())
    }
}

/// Whether the directory whose keys begin with `below` is there; `None` if the page ends before it would come.
fn says_of_dir(page: &KeyPage, below: &str) -> Option<bool> {
    if page.prefixes.iter().any(|prefix| prefix == below) {
        return Some(true);
    }
    let last_object = page.objects.last().map(|(key, _)| key.as_str());
    let last = last_object.max(page.prefixes.last().map(String::as_str));
    (page.next.is_none() || last.is_some_and(|last| last > below)).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::client::page;

    #[test]
    fn a_page_tells_of_the_directory_if_it_reaches_that_far() {
        assert_eq!(says_of_dir(&page(&[], &[], false), "a/"), Some(false));
        assert_eq!(says_of_dir(&page(&["a"], &["a/"], true), "a/"), Some(true));
        assert_eq!(says_of_dir(&page(&["a", "a0"], &[], true), "a/"), Some(false));
        assert_eq!(says_of_dir(&page(&["a", "a.b"], &[], false), "a/"), Some(false));
        assert_eq!(says_of_dir(&page(&["a", "a.b"], &["a-/"], true), "a/"), None);
        assert_eq!(says_of_dir(&page(&["a"], &["ab/"], true), "a/"), Some(false));
    }
}
