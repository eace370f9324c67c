//! An nginx before the provider: the yardstick for what any proxy adds.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use crate::processes::{Launch, Process, free_port, listens, on_path};

const PATIENCE: Duration = Duration::from_secs(5);

/// A running nginx and its `host:port`.
#[derive(Debug)]
pub(crate) struct Nginx {
    /// Its process.
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) authority: String,
}

/// Starts nginx before `provider` when there is one on PATH.
pub(crate) async fn start(folder: &Path, provider: &str) -> anyhow::Result<Option<Nginx>> {
    let Some(program) = on_path("nginx") else { return Ok(None) };
    let folder = folder.join("nginx");
    fs::create_dir_all(&folder)?;
    let authority = format!("127.0.0.1:{}", free_port()?);
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration(&authority, provider))?;
    let text = |path: &Path| path.display().to_string();
    let arguments =
        ["-p".to_owned(), text(&folder), "-c".to_owned(), text(&file), "-e".to_owned(), "stderr".to_owned()];
    let process = Process::start(&Launch {
        name: "nginx",
        program: &program,
        arguments: &arguments,
        environment: &BTreeMap::new(),
        folder: &folder,
    })?;
    listens(&authority, PATIENCE).await?;
    Ok(Some(Nginx { process, authority }))
}

/// One process, kept connections, no log. Without a master process a kill leaves nothing behind.
fn configuration(authority: &str, provider: &str) -> String {
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid nginx.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         access_log off;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\n\
         scgi_temp_path scgi;\n\
         keepalive_requests 10000000;\n\
         upstream provider {{ server {provider}; keepalive 128; keepalive_requests 10000000; }}\n\
         server {{\n\
         listen {authority};\n\
         location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_buffering off; }}\n\
         }}\n}}\n"
    )
}
