//! A network namespace, and work done inside it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, NSFS_MAGIC, PROC_SUPER_MAGIC, fstatfs};

use crate::Error;
use crate::error::words;

/// Stack of the thread that works in a namespace, in bytes. Only what is touched is paid for.
const STACK: usize = 256 * 1024;

/// An open network namespace. It exists at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

/// Why a path could not be opened as a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOpened {
    /// Nothing is there.
    Missing {
        /// The path that was asked for.
        path: String,
    },
    /// Something is there, but no namespace: what is left under a path when the namespace was unmounted.
    NotANamespace {
        /// The path that was asked for.
        path: String,
        /// What kind of file system it is on, `f_type` of `statfs(2)`.
        magic: u64,
    },
    /// It could not be found out.
    Failed {
        /// The path that was asked for.
        path: String,
        /// Why.
        errno: Errno,
    },
}

impl NotOpened {
    /// Whether the namespace does not exist (any more), and with it all that was in it.
    pub fn is_gone(&self) -> bool {
        !matches!(self, NotOpened::Failed { .. })
    }
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (NotOpened::Missing { path }
        | NotOpened::NotANamespace { path, .. }
        | NotOpened::Failed { path, .. }) = self;
        write!(f, "failed to open netns {path:?}: ")?;
        match self {
            NotOpened::Missing { .. } => f.write_str("no such file or directory"),
            NotOpened::NotANamespace { magic, .. } => {
                write!(f, "unknown FS magic on {path:?}: {magic:x}")
            }
            NotOpened::Failed { errno, .. } => f.write_str(&words(*errno)),
        }
    }
}

impl std::error::Error for NotOpened {}

impl Netns {
    /// Opens the namespace at `path`, usually `/run/netns/...` or `/proc/PID/ns/net`.
    pub fn open(path: &str) -> Result<Netns, NotOpened> {
        let failed = |errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => NotOpened::Missing { path: path.into() },
            _ => NotOpened::Failed {
                path: path.into(),
                errno,
            },
        };
        // Not blocking, because the path may lead to a FIFO instead.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(|e| failed(Errno::from_raw(e.raw_os_error().unwrap_or_default())))?;
        let FsType(magic) = fstatfs(&file).map_err(failed)?.filesystem_type();
        // Kernels before 3.19 have their namespaces on procfs.
        if ![NSFS_MAGIC, PROC_SUPER_MAGIC].contains(&FsType(magic)) {
            #[expect(clippy::cast_sign_loss, reason = "a magic number has no sign")]
            return Err(NotOpened::NotANamespace {
                path: path.into(),
                magic: magic as u64,
            });
        }
        Ok(Netns { file })
    }

    /// Whether `path` leads to this very namespace. `/run/netns/x` and `/var/run/netns/x` may be the same.
    pub fn is_at(&self, path: &str) -> bool {
        let (Ok(own), Ok(other)) = (self.file.metadata(), std::fs::metadata(path)) else {
            return false;
        };
        (own.dev(), own.ino()) == (other.dev(), other.ino())
    }

    /// Runs `work` inside the namespace and waits for it.
    ///
    /// The work runs on a thread of its own that enters the namespace once and never comes back. So the calling
    /// thread stays where it is, and no failure can leave it half way. A panic in `work` goes on in the caller.
    pub fn inside<T: Send, E: Send + From<Error>>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK);
            let work = || {
                self.enter()?;
                work()
            };
            thread
                .spawn_scoped(scope, work)
                .map_err(|e| Error::from(e).context("failed to start a thread"))?
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one home of setns: the calling thread was made for this"
    )]
    fn enter(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::from(e).context("failed to enter the pod's network namespace"))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
