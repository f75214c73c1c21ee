//! Start files that another user of the machine has made, in a home that is open to all: none holds up an installation or
//! a removal, and none is written to.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use testkit::Neighbour;

use crate::install::{fresh, server};
use crate::place::{finish_soon, repository, spawn};

#[test]
fn start_files_of_a_neighbour_hold_up_neither_installation_nor_removal() {
    let Some(neighbour) = Neighbour::new() else { return };
    let server = server();
    for file in [".profile", ".bashrc", ".zshrc"] {
        for fifo in [true, false] {
            let place = fresh(&server);
            let path = place.home.join(file);
            fs::set_permissions(&place.home, fs::Permissions::from_mode(0o1777)).expect("chmod");
            let mut plant = Command::new(if fifo { "mkfifo" } else { "touch" });
            neighbour.starts(plant.arg(&path));
            assert!(plant.status().expect("start a program").success());
            let script = repository().join("install.sh");
            for words in [&[][..], &["--uninstall", "--yes"]] {
                let mut all = vec![script.as_os_str()];
                all.extend(words.iter().map(OsStr::new));
                let said = finish_soon(spawn(&mut place.command(&all))).ok();
                let meta = fs::symlink_metadata(&path).expect("metadata");
                assert_eq!(meta.file_type().is_fifo(), fifo, "{file}: {said:?}");
                assert_eq!(meta.uid(), neighbour.uid, "{file}: {said:?}");
            }
            assert!(!place.tool().exists(), "{file}");
        }
    }
}
