//! The kinds of request that are compared, each on its own connection.

use std::{collections::BTreeMap, time::Duration};

use anyhow::bail;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    bare_workflow::BareClient,
    http::{Answer, Connection, Prepared},
    installation::{CLIENT_KEY, FAST_MODELS, FAST_WEIGHT, Installation, JUDGE_MODEL},
};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Straight to the provider.
    Direct,
    /// Through nginx.
    Nginx,
    /// Through a proxy of the API's libraries that does nothing.
    EmptyProxy,
    /// Through the hub, without durability.
    FastPath,
    /// The first event of a stream of the provider.
    DirectStream,
    /// The same through nginx.
    NginxStream,
    /// The same through the empty proxy.
    EmptyProxyStream,
    /// The same through the hub.
    HubStream,
    /// A workflow of one activity.
    Bare,
    /// A durable chat through the hub.
    DurableChat,
    /// A vote of three, decided by majority.
    VoteMajority,
    /// A vote of three, decided by a judge.
    VoteJudge,
}

impl Kind {
    /// Every kind, each behind what it is compared with.
    pub(crate) const ALL: [Self; 12] = [
        Self::Direct,
        Self::Nginx,
        Self::EmptyProxy,
        Self::FastPath,
        Self::DirectStream,
        Self::NginxStream,
        Self::EmptyProxyStream,
        Self::HubStream,
        Self::Bare,
        Self::DurableChat,
        Self::VoteMajority,
        Self::VoteJudge,
    ];

    /// What is printed.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct to the provider",
            Self::Nginx => "through nginx",
            Self::EmptyProxy => "through an empty proxy",
            Self::FastPath => "fast path",
            Self::DirectStream => "first event, direct",
            Self::NginxStream => "first event, through nginx",
            Self::EmptyProxyStream => "first event, empty proxy",
            Self::HubStream => "first event, through the hub",
            Self::Bare => "bare workflow, one activity",
            Self::DurableChat => "durable chat",
            Self::VoteMajority => "vote of 3, majority",
            Self::VoteJudge => "vote of 3, judge",
        }
    }

    /// What it is compared with.
    pub(crate) fn baseline(self) -> Self {
        match self {
            Self::Direct | Self::Nginx | Self::EmptyProxy | Self::FastPath => Self::Direct,
            Self::DirectStream | Self::NginxStream | Self::EmptyProxyStream | Self::HubStream => Self::DirectStream,
            Self::Bare | Self::DurableChat | Self::VoteMajority | Self::VoteJudge => Self::Bare,
        }
    }

    /// Whether the first bytes count, and not the last.
    fn is_stream(self) -> bool {
        match self {
            Self::DirectStream | Self::NginxStream | Self::EmptyProxyStream | Self::HubStream => true,
            Self::Direct
            | Self::Nginx
            | Self::EmptyProxy
            | Self::FastPath
            | Self::Bare
            | Self::DurableChat
            | Self::VoteMajority
            | Self::VoteJudge => false,
        }
    }

    /// What the hub must say of how it was carried.
    fn durability(self) -> Option<&'static str> {
        match self {
            Self::Direct
            | Self::Nginx
            | Self::EmptyProxy
            | Self::DirectStream
            | Self::NginxStream
            | Self::EmptyProxyStream
            | Self::Bare => None,
            Self::FastPath => Some("none"),
            Self::HubStream => Some("stream"),
            Self::DurableChat | Self::VoteMajority | Self::VoteJudge => Some("durable"),
        }
    }

    /// The request; nothing when it is not made over HTTP or there is no server for it.
    pub(crate) fn request(self, installation: &Installation) -> Option<Prepared> {
        let (provider, hub) = (&installation.provider_authority, &installation.api_authority);
        let nginx = installation.nginx.as_ref().map(|nginx| &nginx.authority);
        let empty = &installation.empty_proxy_authority;
        let chat = |authority: &String| Prepared::post(authority, "/v1/chat/completions", &chat_body());
        let stream = |authority: &String| Prepared::post(authority, "/v1/chat/completions", &stream_body());
        let vote = |judging: Value| Prepared::post(hub, "/v1/plan", &vote_body(judging)).key(CLIENT_KEY);
        match self {
            Self::Direct => Some(chat(provider)),
            Self::Nginx => nginx.map(chat),
            Self::EmptyProxy => Some(chat(empty)),
            Self::FastPath => Some(chat(hub).key(CLIENT_KEY).durability("none")),
            Self::DirectStream => Some(stream(provider)),
            Self::NginxStream => nginx.map(stream),
            Self::EmptyProxyStream => Some(stream(empty)),
            Self::HubStream => Some(stream(hub).key(CLIENT_KEY).durability("none")),
            Self::Bare => None,
            Self::DurableChat => Some(chat(hub).key(CLIENT_KEY)),
            Self::VoteMajority => Some(vote(json!({"method": "majority"}))),
            Self::VoteJudge => Some(vote(json!({"method": "judge", "review_model_id": JUDGE_MODEL}))),
        }
    }
}

/// The chat of every kind.
pub(crate) fn chat_body() -> Value {
    json!({"model": FAST_MODELS[0], "messages": [
        {"role": "system", "content": "You are a helpful assistant. Answer in at most three sentences."},
        {"role": "user", "content": "What is the capital of France, since when, and how many people live there?"},
    ]})
}

/// The same as a stream.
pub(crate) fn stream_body() -> Value {
    let mut body = chat_body();
    body["stream"] = Value::Bool(true);
    body
}

fn vote_body(judging: Value) -> Value {
    let mut orchestration = json!({"mode": "vote", "voters": 3, "primary_min_weight": FAST_WEIGHT});
    if let (Some(all), Value::Object(judging)) = (orchestration.as_object_mut(), judging) {
        all.extend(judging);
    }
    json!({"request": {"messages": chat_body()["messages"]}, "orchestration": orchestration})
}

/// How long a request took, and who carried it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// From sending to the last byte, or to the first event of a stream.
    pub(crate) time: Duration,
    /// Whether the hub carried it as it was asked to.
    pub(crate) carried: Carried,
}

/// Whether the hub carried a request as it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It did.
    AsAsked,
    /// A durable request was answered in process: the machine was too busy for the start deadline.
    InProcess,
}

/// A way to make requests of one kind, one after another.
pub(crate) enum Lane {
    /// Over HTTP.
    Http {
        /// What kind.
        kind: Kind,
        /// On this connection.
        connection: Box<Connection>,
        /// This request.
        request: Box<Prepared>,
    },
    /// Through Temporal.
    Bare(BareClient),
}

impl Lane {
    /// A lane of a kind that is made over HTTP.
    pub(crate) async fn http(kind: Kind, request: &Prepared) -> anyhow::Result<Self> {
        let connection = Box::new(Connection::open(&request.authority).await?);
        Ok(Self::Http { kind, connection, request: Box::new(request.clone()) })
    }

    /// One request.
    pub(crate) async fn once(&mut self) -> anyhow::Result<Taken> {
        match self {
            Self::Http { kind, connection, request } => {
                let answer = connection.exchange(request).await?;
                let time = if kind.is_stream() { answer.first_byte } else { answer.took };
                Ok(Taken { time, carried: carried(*kind, &answer)? })
            }
            Self::Bare(client) => {
                let started = std::time::Instant::now();
                client.run_once().await?;
                Ok(Taken { time: started.elapsed(), carried: Carried::AsAsked })
            }
        }
    }
}

fn carried(kind: Kind, answer: &Answer) -> anyhow::Result<Carried> {
    match (kind.durability(), answer.durability.as_deref()) {
        (None, _) => Ok(Carried::AsAsked),
        (Some(wanted), Some(said)) if wanted == said => Ok(Carried::AsAsked),
        (Some("durable"), Some("none")) => Ok(Carried::InProcess),
        (Some(wanted), said) => bail!("{}: durability {wanted} was asked for and {said:?} came", kind.title()),
    }
}

/// A lane of each kind that there is here.
pub(crate) struct Lanes(pub(crate) BTreeMap<Kind, Lane>);

impl Lanes {
    /// Opens them.
    pub(crate) async fn open(installation: &Installation) -> anyhow::Result<Self> {
        let bare = BareClient::connect(&installation.temporal_address, chat_body().to_string()).await?;
        let mut lanes = BTreeMap::from([(Kind::Bare, Lane::Bare(bare))]);
        for kind in Kind::ALL {
            if let Some(request) = kind.request(installation) {
                lanes.insert(kind, Lane::http(kind, &request).await?);
            }
        }
        Ok(Self(lanes))
    }
}
