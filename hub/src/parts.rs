//! Where things are: programs, and the folders that parts write to.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokenhub_config::Environment;

/// Programs that `make run` installed, searched after PATH.
const LOCAL_PROGRAMS: &str = ".venv/bin";

/// The data directory and what `up` keeps in it.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    pub(crate) data: PathBuf,
    pub(crate) run: PathBuf,
}

impl Folders {
    /// Makes them.
    pub(crate) fn create(data: &Path) -> io::Result<Self> {
        let run = data.join("run");
        std::fs::create_dir_all(&run)?;
        Ok(Self { data: data.to_owned(), run })
    }

    /// Where the part `name` writes.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.run.join(name).with_extension("log")
    }
}

/// The program `name`: the first one on PATH, else what `make run` installed.
pub(crate) fn find_program(name: &str, environment: &Environment) -> Option<PathBuf> {
    let path = environment.get("PATH").unwrap_or_default();
    let installed = std::path::absolute(LOCAL_PROGRAMS).ok();
    std::env::split_paths(path).chain(installed).map(|folder| folder.join(name)).find(|file| is_program(file))
}

/// The program `name` beside our own.
pub(crate) fn sibling_program(name: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_that_is_given() {
        let environment = Environment::from([("PATH", "/nowhere:/bin:/usr/bin")]);
        assert!(find_program("sh", &environment).is_some_and(|file| file.is_absolute()));
        assert_eq!(find_program("sh", &Environment::from([("PATH", "/nowhere")])), None);
        assert_eq!(find_program("no-such-program-here", &environment), None);
    }
}
