//! The kinds of call a store serves, for counters, rules and deadlines.

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the call of the same name")]
pub enum Op {
    Stat,
    List,
    Read,
    BeginPut,
    Part,
    Finish,
    Abort,
    Delete,
    Mkdir,
    Rmdir,
    Rename,
    Copy,
    HardLink,
    Symlink,
    SetAttr,
    SyncName,
    Space,
}

impl Op {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Stat,
        Self::List,
        Self::Read,
        Self::BeginPut,
        Self::Part,
        Self::Finish,
        Self::Abort,
        Self::Delete,
        Self::Mkdir,
        Self::Rmdir,
        Self::Rename,
        Self::Copy,
        Self::HardLink,
        Self::Symlink,
        Self::SetAttr,
        Self::SyncName,
        Self::Space,
    ];

    /// A word for it, as a metric's label has it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::List => "list",
            Self::Read => "read",
            Self::BeginPut => "begin_put",
            Self::Part => "part",
            Self::Finish => "finish",
            Self::Abort => "abort",
            Self::Delete => "delete",
            Self::Mkdir => "mkdir",
            Self::Rmdir => "rmdir",
            Self::Rename => "rename",
            Self::Copy => "copy",
            Self::HardLink => "hard_link",
            Self::Symlink => "symlink",
            Self::SetAttr => "set_attr",
            Self::SyncName => "sync_name",
            Self::Space => "space",
        }
    }

    /// How many times the usual deadline the call may take: a finish syncs or assembles the whole file, and a
    /// copy moves it.
    pub(super) const fn deadline_factor(self) -> u32 {
        match self {
            Self::Finish | Self::Copy => 10,
            _ => 1,
        }
    }
}
