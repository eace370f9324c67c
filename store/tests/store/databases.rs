//! An empty database for each test: a `SQLite` file, or a database in a private `PostgreSQL` cluster.
//!
//! The cluster is made once for the test binary, in a temporary folder, reachable by a unix socket only. A shell holds
//! it and reads from a pipe that ends with this process, however it ends; then it stops the cluster and removes the
//! folder.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use sea_orm::ConnectionTrait;
use tempfile::TempDir;
use tokenhub_store::Store;

/// An empty database and a data directory.
pub(crate) struct Database {
    pub(crate) url: String,
    folder: TempDir,
}

impl Database {
    /// A store with the schema.
    pub(crate) async fn store(&self) -> Store {
        let store = self.bare_store().await;
        store.migrate().await.unwrap();
        store
    }

    /// A store without the schema.
    pub(crate) async fn bare_store(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.folder.path()
    }
}

pub(crate) fn sqlite() -> Database {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("tokenhub.db").display());
    Database { url, folder }
}

/// None when the tests are told to leave `PostgreSQL` out.
pub(crate) async fn postgres() -> Option<Database> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let cluster = CLUSTER.get_or_init(Cluster::start).as_ref()?;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let admin = sea_orm::Database::connect(cluster.url("postgres")).await.unwrap();
    admin.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
    admin.close().await.unwrap();
    Some(Database { url: cluster.url(&name), folder: tempfile::tempdir().unwrap() })
}

struct Cluster {
    socket_folder: PathBuf,
    /// Its standard input is the pipe that keeps the cluster alive.
    _keeper: Child,
}

/// `$0` is the folder, `$1` the folder of the binaries, the rest a command prefix that changes to an ordinary user.
const KEEPER: &str = r#"
folder=$0; binaries=$1; shift
stop() { "$@" "$binaries/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1; rm -rf "$folder"; }
if "$@" "$binaries/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --no-sync >"$folder/log" 2>&1 &&
   "$@" "$binaries/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w \
       -o "-k $folder -c listen_addresses= -c fsync=off -c max_connections=200" start </dev/null >>"$folder/log" 2>&1
then echo ready; else cat "$folder/log"; fi
exec >/dev/null
read -r _
stop "$@"
"#;

impl Cluster {
    #[expect(clippy::disallowed_methods, reason = "a switch of the tests, not a setting of the product")]
    fn start() -> Option<Self> {
        if std::env::var("TOKENHUB_TEST_POSTGRES").is_ok_and(|value| value == "off") {
            return None;
        }
        let binaries = binaries().expect(
            "PostgreSQL is not installed below /usr/lib/postgresql; install it or set TOKENHUB_TEST_POSTGRES=off",
        );
        let folder = tempfile::Builder::new().prefix("tokenhub-pg-").tempdir().unwrap().keep();
        let mut keeper = Command::new("sh");
        keeper.arg("-c").arg(KEEPER).arg(&folder).arg(binaries);
        let user = Command::new("id").arg("-u").output().unwrap();
        if user.stdout == b"0\n" {
            // The server refuses to run as root.
            assert!(Command::new("chown").arg("postgres").arg(&folder).status().unwrap().success());
            keeper.args(["runuser", "-u", "postgres", "--"]);
        } else {
            keeper.arg("env");
        }
        keeper.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = keeper.spawn().unwrap();
        let mut said = BufReader::new(keeper.stdout.take().unwrap()).lines();
        let first = said.next().unwrap().unwrap();
        assert!(first == "ready", "the cluster did not start: {first} {:?}", said.collect::<Vec<_>>());
        Some(Self { socket_folder: folder, _keeper: keeper })
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.socket_folder.display())
    }
}

fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.filter_map(Result::ok).map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists())
}

/// Makes each of the named functions a test on `SQLite` and a test on `PostgreSQL`.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::databases::sqlite()).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(database) = $crate::databases::postgres().await {
                    super::$name(database).await;
                }
            })+
        }
    };
}
pub(crate) use on_both_databases;
