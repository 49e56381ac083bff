//! Device-info files: what a device plugin or a delegate tells about a device, for `device-info` in network-status.
//!
//! A device plugin writes one for each device. It is copied under a name of the attachment's, which the delegate gets
//! as `runtimeConfig.CNIDeviceInfoFile` and may write itself.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni::json::Value;
use cni::{Code, Error};

/// The folder of all device-info files.
pub(crate) const FOLDER: &str = "/var/run/k8s.cni.cncf.io/devinfo";

/// More than a description of one device has.
const MAX_LENGTH: u64 = 64 << 10;

/// The file of one attachment, `<folder>/cni/<name>-<container id>_<interface>`; slashes in the name are dashes.
///
/// `folder` is [`FOLDER`], `name` the attachment's name in network-status. `None` when no file can have this name.
pub(crate) fn of_attachment(
    folder: &Path,
    name: &str,
    container_id: &str,
    ifname: &str,
) -> Option<PathBuf> {
    let name = name.replace('/', "-");
    let file = format!("{name}-{container_id}_{ifname}");
    is_file_name(&file).then(|| folder.join("cni").join(file))
}

/// The file that a device plugin has written, `<folder>/dp/<resource>-<id>-device.json`.
///
/// A pod's owner can name a device in an annotation: an id that leads out of the folder is no file's.
fn of_device(folder: &Path, resource: &str, id: &str) -> Option<PathBuf> {
    let resource = resource.replace('/', "-");
    let file = format!("{resource}-{id}-device.json");
    is_file_name(&file).then(|| folder.join("dp").join(file))
}

fn is_file_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\0']) && text.len() <= 255
}

/// Copies what the device plugin says to the attachment's file (0444), before the delegate's ADD. Where the plugin
/// says nothing there is nothing to copy. What an earlier ADD of this attachment has left is replaced.
///
/// Errors: code 5.
pub(crate) fn copy(
    folder: &Path,
    resource: &str,
    id: &str,
    attachment: &Path,
) -> Result<(), Error> {
    let Some(device) = of_device(folder, resource, id) else {
        return Ok(());
    };
    let text = match read_file(&device) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(|e| failed("read", &device, &e))?,
    };
    let unfinished = unfinished(attachment);
    let write = || {
        if let Some(folder) = attachment.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(folder)?;
        }
        remove_file(&unfinished)?;
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&unfinished)?;
        file.write_all(&text)?;
        fs::rename(&unfinished, attachment)
    };
    write().map_err(|e| {
        let _ = remove_file(&unfinished);
        failed("write", attachment, &e)
    })
}

/// What the attachment's file says after ADD: a JSON object. `None` when there is no file, or it says nothing that
/// can be shown; that is logged.
pub(crate) fn read(attachment: &Path) -> Option<Value> {
    let text = match read_file(attachment) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) => {
            log::warn!("{}", failed("read", attachment, &e));
            return None;
        }
    };
    match Value::parse(&text) {
        Ok(info @ Value::Object(_)) => Some(info),
        Ok(_) => {
            log::warn!(
                "device-info file {}: it is no JSON object",
                attachment.display()
            );
            None
        }
        Err(e) => {
            log::warn!("device-info file {}: {e}", attachment.display());
            None
        }
    }
}

/// Removes the attachment's file, after the delegate's DEL. Nothing there is success. Errors: code 5.
pub(crate) fn remove(attachment: &Path) -> Result<(), Error> {
    for path in [unfinished(attachment), attachment.to_owned()] {
        remove_file(&path).map_err(|e| failed("remove", &path, &e))?;
    }
    Ok(())
}

fn unfinished(attachment: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(attachment.file_name().unwrap_or_default());
    attachment.with_file_name(name)
}

/// A regular file of no absurd length: the folder is open to every device plugin.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let mut text = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut text)?;
    match text.len() as u64 > MAX_LENGTH {
        true => Err(io::Error::new(ErrorKind::InvalidData, "it is too long")),
        false => Ok(text),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(e),
        _ => Ok(()),
    }
}

fn failed(step: &str, path: &Path, error: &io::Error) -> Error {
    let msg = format!("device-info file: {step} {}: {error}", path.display());
    Error::new(Code::Io, msg)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn names_of_files() {
        let root = Path::new("/x");
        let of_attachment = |name, ifname| of_attachment(root, name, "c1", ifname);
        assert_eq!(
            of_attachment("default/net", "net1").unwrap(),
            Path::new("/x/cni/default-net-c1_net1")
        );
        let device = of_device(root, "intel.com/sriov", "0000:03:02.0").unwrap();
        assert_eq!(
            device,
            Path::new("/x/dp/intel.com-sriov-0000:03:02.0-device.json")
        );
        assert_eq!(of_device(root, "r", "/../../etc/shadow"), None);
        assert_eq!(of_device(root, "..", "x"), None);
        assert_eq!(of_device(root, "r", &"x".repeat(300)), None);
        assert_eq!(of_attachment(&"n".repeat(253), "net1"), None);
    }

    #[test]
    fn a_file_is_copied_read_and_removed() {
        let root = std::env::temp_dir().join(format!("devinfo-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let ours = of_attachment(&root, "default/net", "c1", "net1").unwrap();
        copy(&root, "r", "a", &ours).unwrap();
        assert!(!ours.exists(), "the plugin says nothing");
        remove(&ours).unwrap();
        assert_eq!(read(&ours), None);

        fs::create_dir_all(root.join("dp")).unwrap();
        let text = r#"{"type":"pci","version":"1.1.0","pci":{"pci-address":"a"}}"#;
        fs::write(root.join("dp/r-a-device.json"), text).unwrap();
        for _ in 0..2 {
            copy(&root, "r", "a", &ours).unwrap();
            assert_eq!(fs::read_to_string(&ours).unwrap(), text);
        }
        assert_eq!(
            fs::metadata(&ours).unwrap().permissions().mode() & 0o777,
            0o444
        );
        assert_eq!(serde_json::to_string(&read(&ours)).unwrap(), text);

        fs::write(unfinished(&ours), "{").unwrap();
        remove(&ours).unwrap();
        assert_eq!(fs::read_dir(root.join("cni")).unwrap().count(), 0);
        for bad in [
            "",
            "[]",
            "{",
            &format!("{{\"a\":\"{}\"}}", "x".repeat(70_000)),
        ] {
            fs::write(&ours, bad).unwrap();
            assert_eq!(read(&ours), None);
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
