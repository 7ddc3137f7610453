//! Which file each name is of: the names of one inode are one file, and those of two inodes are two.
//!
//! The bytes alone do not tell: two empty files are alike, and so are two that were only ever lengthened. Taken for each
//! other, they would be held against each other's writes from then on. Pure: numbers in, numbers out.

use std::collections::BTreeMap;

/// A name that stands for a regular file.
pub(super) struct Named<'a> {
    pub(super) path: &'a str,
    /// The inode that was seen.
    pub(super) inode: u64,
    /// The files it may be by its bytes and mode, the likeliest first.
    pub(super) may_be: Vec<u64>,
}

/// All names of one inode, and the files that each of them may be.
struct Group<'a> {
    first: &'a str,
    may_be: Vec<u64>,
}

/// The file of every inode; else which names cannot be what they were.
pub(super) fn identify(names: &[Named<'_>]) -> Result<BTreeMap<u64, u64>, Vec<String>> {
    let (groups, mut findings) = grouped(names);
    let mut owners: BTreeMap<u64, u64> = BTreeMap::new();
    for (inode, group) in &groups {
        if !place(*inode, &groups, &mut owners, &mut Vec::new()) {
            let other =
                group.may_be.iter().find_map(|file| owners.get(file)).map(|inode| groups[inode].first);
            findings.extend(
                other.map(|other| format!("{} and {other} were one file and are two now", group.first)),
            );
        }
    }
    if findings.is_empty() {
        Ok(owners.into_iter().map(|(file, inode)| (inode, file)).collect())
    } else {
        Err(findings)
    }
}

fn grouped<'a>(names: &[Named<'a>]) -> (BTreeMap<u64, Group<'a>>, Vec<String>) {
    let mut groups: BTreeMap<u64, Group<'a>> = BTreeMap::new();
    let mut findings = Vec::new();
    for name in names {
        let new = || Group { first: name.path, may_be: name.may_be.clone() };
        let group = groups.entry(name.inode).or_insert_with(new);
        group.may_be.retain(|file| name.may_be.contains(file));
        if group.may_be.is_empty() {
            findings.push(format!("{} and {} are one file and never were", group.first, name.path));
        }
    }
    (groups, findings)
}

/// Gives an inode one of the files it may be, and one that has it another, where there is one (a matching by augmenting
/// paths). False: there are not enough.
fn place(
    inode: u64,
    groups: &BTreeMap<u64, Group<'_>>,
    owners: &mut BTreeMap<u64, u64>,
    tried: &mut Vec<u64>,
) -> bool {
    for file in &groups[&inode].may_be {
        if tried.contains(file) {
            continue;
        }
        tried.push(*file);
        let owner = owners.get(file).copied();
        if owner.is_none_or(|owner| place(owner, groups, owners, tried)) {
            owners.insert(*file, inode);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[(&'static str, u64, &[u64])]) -> Vec<Named<'static>> {
        names
            .iter()
            .map(|(path, inode, may_be)| Named { path, inode: *inode, may_be: may_be.to_vec() })
            .collect()
    }

    #[test]
    fn two_inodes_are_two_files_whatever_is_likeliest() {
        let found = identify(&named(&[("a", 10, &[1, 2]), ("b", 11, &[1]), ("c", 12, &[1, 2, 3])])).unwrap();
        assert_eq!(found, BTreeMap::from([(10, 2), (11, 1), (12, 3)]));
    }

    #[test]
    fn the_names_of_an_inode_are_one_file_that_each_may_be() {
        let found = identify(&named(&[("a", 10, &[1, 2]), ("b", 10, &[2, 3])])).unwrap();
        assert_eq!(found, BTreeMap::from([(10, 2)]));
        let apart = identify(&named(&[("a", 10, &[1]), ("b", 10, &[2])])).unwrap_err();
        assert!(apart[0].contains("never were"), "{apart:?}");
        let torn = identify(&named(&[("a", 10, &[1]), ("b", 11, &[1])])).unwrap_err();
        assert!(torn[0].contains("two now"), "{torn:?}");
    }
}
