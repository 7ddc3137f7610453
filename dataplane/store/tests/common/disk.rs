//! A disk that can lose its power: ext4 in a file, mounted by loop, shut down under us.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// `EXT4_IOC_SHUTDOWN` of linux/ext4.h with `EXT4_GOING_FLAGS_NOLOGFLUSH`: what was not synced is gone. By perl, which
/// every Debian has, because an ioctl needs unsafe code.
const SHUTDOWN: &str =
    r#"open(my $d, "<", $ARGV[0]) or die $!; my $how = pack("L", 2); ioctl($d, 0x8004587D, $how) or die $!"#;

pub struct Disk {
    _image_dir: tempfile::TempDir,
    image: PathBuf,
    mounted_at: PathBuf,
    mounted: bool,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Tries until it goes well; for a machine that does ten other things.
fn within_a_while(mut attempt: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            ended => return ended,
        }
    }
}

/// Whether this process may mount a disk of its own.
pub fn may_mount() -> bool {
    rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists()
}

impl Disk {
    pub fn new(megabytes: u64) -> Self {
        let image_dir = tempfile::tempdir().unwrap();
        let image = image_dir.path().join("image");
        let mounted_at = image_dir.path().join("mnt");
        std::fs::create_dir(&mounted_at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-b", "4096", image.to_str().unwrap()]).unwrap();
        let mut disk = Self { _image_dir: image_dir, image, mounted_at, mounted: false };
        disk.mount();
        disk
    }

    pub fn path(&self) -> &Path {
        &self.mounted_at
    }

    pub fn mount(&mut self) {
        run("mount", &["-o", "loop", self.image.to_str().unwrap(), self.mounted_at.to_str().unwrap()])
            .unwrap();
        self.mounted = true;
    }

    /// Takes the power away. Everything on it fails from now on.
    pub fn cut_power(&self) {
        run("perl", &["-e", SHUTDOWN, self.mounted_at.to_str().unwrap()]).unwrap();
    }

    /// What the next boot does: mount, with the journal's recovery.
    pub fn reboot(&mut self) {
        self.unmount().unwrap();
        self.mount();
    }

    /// As [`Self::reboot`], with a change that debugfs(8) makes in between.
    pub fn edit_and_reboot(&mut self, request: &str) {
        self.unmount().unwrap();
        run("debugfs", &["-w", "-R", request, self.image.to_str().unwrap()]).unwrap();
        self.mount();
    }

    fn unmount(&mut self) -> Result<(), String> {
        // The store's helper may still close its last file.
        within_a_while(|| run("umount", &[self.mounted_at.to_str().unwrap()]))?;
        self.mounted = false;
        // Who made a tree of mounts of his own meanwhile has this one too. As long as it lasts somewhere, the next mount would
        // be of the same file system, without power.
        within_a_while(|| {
            match std::fs::read_dir("/sys/block").unwrap().flatten().any(|disk| {
                let behind =
                    std::fs::read_to_string(disk.path().join("loop/backing_file")).unwrap_or_default();
                Path::new(behind.trim_end()) == self.image
            }) {
                true => Err(format!("{} is mounted in another tree of mounts", self.image.display())),
                false => Ok(()),
            }
        })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.unmount();
        }
    }
}
