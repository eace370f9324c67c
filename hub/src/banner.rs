//! What `up` prints when everything is ready: where things are, and a line that works when pasted.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::ephemeral::Ephemeral;
use crate::local_model;

/// Where the key that clients present is.
#[derive(Clone, Debug)]
pub(crate) enum KeyPlace {
    /// In a file of the data directory.
    File(PathBuf),
    /// In the variable that the operator set.
    Variable(&'static str),
    /// Where a line of the configuration file points.
    Reference(String),
}

/// Everything worth knowing.
#[derive(Clone, Debug)]
pub(crate) struct Banner {
    pub(crate) api: SocketAddr,
    pub(crate) temporal_ui: Option<String>,
    pub(crate) temporal: String,
    pub(crate) client_key: KeyPlace,
    pub(crate) admin_token: KeyPlace,
    pub(crate) offered: Ephemeral,
    pub(crate) model: Option<String>,
    pub(crate) notes: Vec<String>,
}

/// The address to paste: a listener on every interface is reached through this machine.
pub(crate) fn api_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

impl Banner {
    /// The text, one fact a line.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("\nTokenHub is ready.\n\n");
        let mut fact = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name:<14}{value}");
        };
        fact("API", &api_url(self.api));
        fact("Temporal", &self.temporal);
        if let Some(ui) = &self.temporal_ui {
            fact("Temporal UI", ui);
        }
        fact("Client key", &self.client_key.shown());
        fact("Admin token", &self.admin_token.shown());
        if self.offered.local.is_some() {
            fact("Local model", &format!("{} (real, on this machine; small and often wrong)", local_model::MODEL));
        }
        if let Some((_, models)) = &self.offered.demo {
            let names: Vec<&str> = models.iter().map(|model| model.id.as_str()).collect();
            fact("Demo models", &format!("{} (scripted answers, no real models)", names.join(", ")));
        }
        for note in &self.notes {
            fact("Note", note);
        }
        let _ = write!(text, "\nTry it:\n\n{}\n\nCtrl-C stops everything.\n", self.curl());
        text
    }

    fn curl(&self) -> String {
        let model = self.model.as_deref().unwrap_or("MODEL");
        let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "Say hello."}]});
        format!(
            "curl -s {}/v1/chat/completions -H \"Authorization: Bearer {}\" -H 'Content-Type: application/json' -d {}",
            api_url(self.api),
            self.client_key.in_shell(),
            quoted(&body.to_string())
        )
    }
}

impl KeyPlace {
    fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Variable(name) => format!("from {name}"),
            Self::Reference(place) => format!("named at {place}"),
        }
    }

    fn in_shell(&self) -> String {
        match self {
            Self::File(path) => format!("$(cat {})", quoted_path(path)),
            Self::Variable(name) => format!("${name}"),
            Self::Reference(_) => "YOUR_CLIENT_KEY".to_owned(),
        }
    }
}

/// A path as one word of a shell, without quotes where none are needed.
fn quoted_path(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c));
    if is_plain { text } else { quoted(&text) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn banner(model: &str, key: PathBuf) -> Banner {
        Banner {
            api: "0.0.0.0:81".parse().unwrap(),
            temporal_ui: None,
            temporal: "off".into(),
            client_key: KeyPlace::File(key),
            admin_token: KeyPlace::Variable("TOKENHUB_ADMIN_TOKEN"),
            offered: Ephemeral::default(),
            model: Some(model.into()),
            notes: Vec::new(),
        }
    }

    /// What a shell makes of the line: its words, with `printf` in the place of curl.
    fn words(line: &str) -> Vec<String> {
        let script = line.replacen("curl", "printf '%s\\n'", 1);
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_line_works_when_pasted_whatever_the_folder_and_the_model_are_called() {
        let folder = std::env::temp_dir().join(format!("tokenhub it's {}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("client-key"), "the-key\n").unwrap();
        let banner = banner("org/mo'del:1", folder.join("client-key"));
        let words = words(&banner.curl());
        assert_eq!(words[1], "http://127.0.0.1:81/v1/chat/completions");
        assert_eq!(words[3], "Authorization: Bearer the-key");
        let body: serde_json::Value = serde_json::from_str(&words[7]).unwrap();
        assert_eq!(body["model"], "org/mo'del:1");
        assert!(banner.text().contains(&banner.curl()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
