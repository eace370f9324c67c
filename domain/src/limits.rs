//! Every limit of the product, with its reason. Configuration may lower some; nothing raises one silently.

/// Longest text that travels inside a workflow history; longer ones go by reference. Temporal warns at 256 KiB for a
/// payload, and the largest plan, 16 candidates compared in pairs, carries such texts about 150 times: with 12 KiB its
/// history stays below 2 MB.
pub const INLINE_TEXT_BYTES: usize = 12 * 1024;
/// Largest request body on the protocol routes: images arrive inline, base64.
pub const PROTOCOL_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Largest request body on the plan route: a plan multiplies its prompt.
pub const PLAN_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Largest provider answer that is read into memory.
pub const PROVIDER_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of a provider's error body that are kept and passed on.
pub const PROVIDER_ERROR_BYTES: usize = 16 * 1024;
/// Longest name of a tenant or a client key: a tenant is the key by which turns are taken in Temporal's queues, which may be
/// no longer, and part of workflow ids.
pub const TENANT_BYTES: usize = 64;
/// Most voters or candidates of one plan.
pub const VOTERS_MAX: u32 = 16;
/// Most rounds of refine and adversarial plans.
pub const ROUNDS_MAX: u32 = 10;
/// Most calls that a plan may be limited to: every step of the largest one, tried at several models.
pub const PLAN_CALLS_MAX: u32 = 1_000;
/// Most tokens that a plan may be limited to.
pub const PLAN_TOKENS_MAX: u64 = 1_000_000_000;
/// Most money that a plan may be limited to, in dollars.
pub const PLAN_COST_USD_MAX: f64 = 10_000.0;
/// Most steps of one plan, each provider call a step.
pub const PLAN_STEPS_MAX: usize = 64;
/// Voters when the request names no number.
pub const VOTERS_DEFAULT: u32 = 3;
/// Adversarial rounds when the request names no number.
pub const ADVERSARIAL_ROUNDS_DEFAULT: u32 = 1;
/// Refine rounds when the request names no number.
pub const REFINE_ROUNDS_DEFAULT: u32 = 2;
/// Most events that are kept of one plan, its last one included: what a client may have to read again after a break.
pub const PLAN_EVENTS_MAX: u64 = 10_000;
/// Output tokens assumed in a cost estimate when the request sets no limit.
pub const ESTIMATED_OUTPUT_TOKENS: u64 = 512;
/// Most models that a cascade asks one after the other: each keeps the caller waiting.
pub const CASCADE_STAGES_MAX: u32 = 6;
/// Models of a cascade when the request names no number.
pub const CASCADE_STAGES_DEFAULT: u32 = 2;
/// Longest deadline a policy may ask for.
pub const POLICY_LATENCY_MS_MAX: u64 = 300_000;
/// Largest budget a policy may ask for, in dollars.
pub const POLICY_BUDGET_USD_MAX: f64 = 100.0;
/// Largest weight a model may have.
pub const WEIGHT_MAX: u32 = 10;
/// Most models that a request may list to fall back on: each may be called, one after the other.
pub const FALLBACKS_MAX: usize = 16;
/// Longest model id: it becomes a column and a label.
pub const MODEL_ID_BYTES: usize = 256;
/// Longest value of an Idempotency-Key header.
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
/// A claim, a journal entry or a lease is renewed this often.
pub const LEASE_RENEW_MS: u64 = 1_000;
/// A lease that was not renewed for this long may be taken over: three missed renewals.
pub const LEASE_MS: u64 = 3_000;
/// Longest run without a deadline of its own.
pub const RUN_DEADLINE_MS: u64 = 1_800_000;
/// Longest wait for a decision about an answer: a person may be on holiday, and a workflow must end some day.
pub const APPROVAL_MS: u64 = 30 * 24 * 3_600_000;
/// A longer comment about a decision is no comment.
pub const APPROVAL_COMMENT_BYTES: usize = 4 * 1024;
/// Most signals that one plan keeps: each is a row, and more of them steer nothing.
pub const PLAN_SIGNALS_MAX: u64 = 100;
/// Longest address of a webhook: longer ones carry data that belongs elsewhere.
pub const WEBHOOK_URL_BYTES: usize = 2_048;
/// Longest name of a template: it becomes a column and a part of a model's name.
pub const TEMPLATE_NAME_BYTES: usize = 64;
/// Largest template: a system prompt and a schema, and no conversation.
pub const TEMPLATE_BODY_BYTES: usize = 256 * 1024;
/// Longest description of a template, which every list shows.
pub const TEMPLATE_DESCRIPTION_BYTES: usize = 1024;
/// Most versions of one template; each is kept for good.
pub const TEMPLATE_VERSIONS_MAX: u64 = 1_000;
/// Most templates of a tenant: `/v1/models` lists them all.
pub const TEMPLATES_MAX: u64 = 500;
/// Most tags of a run: each is a row, and all of them travel with every step.
pub const TAGS_MAX: usize = 16;
/// Longest key of a tag.
pub const TAG_KEY_BYTES: usize = 64;
/// Longest value of a tag.
pub const TAG_VALUE_BYTES: usize = 128;
/// Most bytes of a spool that may wait for the database; beyond it new calls are refused.
pub const SPOOL_BYTES: u64 = 64 * 1024 * 1024;
/// Largest body on the codec routes: a message of Temporal has at most 4 MiB, a third more in base64.
pub const CODEC_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Longest pattern that an answer is checked by; what it compiles to is bounded as well.
pub const CHECK_PATTERN_BYTES: usize = 1_000;
/// Longest address of a verifier.
pub const VERIFIER_URL_BYTES: usize = 2_048;
/// Most bytes of what a check says to whoever improves the answer: every round reads it.
pub const CHECK_FEEDBACK_BYTES: usize = 4 * 1024;
/// Largest answer of a verifier that is read.
pub const VERIFIER_ANSWER_BYTES: usize = 64 * 1024;
/// All tries of one question to a verifier end within this.
pub const VERIFY_MS_MAX: u64 = 120_000;
/// Longest wait for the last voters.
pub const GRACE_MS_MAX: u64 = 600_000;
