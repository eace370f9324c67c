//! A reader's two programs, which remember what was pasted before: a shell and a Python.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::harness::TestHub;

/// A snippet that takes longer is not for a reader.
const PATIENCE: Duration = Duration::from_mins(1);
/// The line after the output of a snippet begins so, and ends with its status.
const END: &str = "--- end of the snippet: ";

/// Reads snippets, each after a line with its length, and prints how each has ended.
const READER: &str = r#"
import sys, traceback
names = {"__name__": "__main__"}
while length := sys.stdin.buffer.readline():
    status = 0
    try:
        exec(compile(sys.stdin.buffer.read(int(length)), "snippet", "exec"), names)
    except BaseException:
        status = 1
        traceback.print_exc(file=sys.stdout)
    print(f"\n--- end of the snippet: {status}", flush=True)
"#;

/// A program that snippets are pasted into; it ends with its handle.
struct Session {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// A shell.
pub struct Shell(Session);

/// A Python.
pub struct Python(Session);

/// A Python of the reader's; what documents call `python3` is beside it.
fn python() -> PathBuf {
    std::env::var_os("TOKENHUB_TEST_PYTHON")
        .map(PathBuf::from)
        .expect("TOKENHUB_TEST_PYTHON names a Python: use `make test`")
}

impl Session {
    fn start(hub: &TestHub, program: &Path, arguments: &[&str]) -> Self {
        let path = format!("{}:{}", python().parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", path)
            .env("HOME", hub.dir())
            .env("PYTHONIOENCODING", "utf-8")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("URL", &hub.apis[0].1)
            .env("KEY", &hub.environment()["TOKENHUB_CLIENT_KEY"])
            .current_dir(hub.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, input, output: BufReader::new(output).lines() }
    }

    /// What is printed until a snippet has ended; `Err` when it ended in a failure.
    async fn printed(&mut self) -> Result<String, String> {
        let mut printed = Vec::new();
        loop {
            let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
            let line = match line {
                Ok(line) => line.unwrap(),
                Err(_) => return Err(format!("{}\nand does not end within {PATIENCE:?}", printed.join("\n"))),
            };
            match line {
                None => return Err(format!("{}\nand ends its session", printed.join("\n"))),
                Some(line) => match line.strip_prefix(END) {
                    Some(status) => {
                        let printed = printed.join("\n").trim_end_matches('\n').to_owned();
                        return if status == "0" { Ok(printed) } else { Err(printed) };
                    }
                    None => printed.push(line),
                },
            }
        }
    }

    async fn write(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }
}

impl Shell {
    /// Starts one, which must know `curl`.
    pub async fn start(hub: &TestHub) -> Self {
        let mut shell = Self(Session::start(hub, Path::new("/bin/bash"), &["--noprofile", "--norc", "-o", "pipefail"]));
        shell.run("exec 2>&1").await.unwrap();
        let found = shell.run("command -v curl && python3 --version").await;
        found.unwrap_or_else(|said| {
            panic!("the documents' snippets need curl and python3 on PATH: install them\n{said}")
        });
        shell
    }

    /// Runs a snippet; nothing in it reads the session's input.
    pub async fn run(&mut self, snippet: &str) -> Result<String, String> {
        self.0.write(&format!("{{ {snippet}\n}} < /dev/null\nprintf '\\n{END}%s\\n' $?\n")).await;
        self.0.printed().await
    }
}

impl Python {
    /// Starts one.
    pub async fn start(hub: &TestHub) -> Self {
        let mut python = Self(Session::start(hub, &python(), &["-c", READER]));
        python.run("1").await.unwrap();
        python
    }

    /// Runs a snippet.
    pub async fn run(&mut self, snippet: &str) -> Result<String, String> {
        self.0.write(&format!("{}\n{snippet}", snippet.len())).await;
        self.0.printed().await
    }
}
