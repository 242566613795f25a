//! `EXPLAIN ROUTE` and `sluice explain`: the decision on a statement, from the code that routes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admin::house::ExplainRow;
use crate::auth::Accounts;
use crate::cache::policy::{self, Bypass, Settings};
use crate::cache::worth::{self, Keeps};
use crate::cache::{Cache, Refused};
use crate::routing::balance::Load;
use crate::routing::decide::{MustHave, Question, decide};
use crate::routing::decision::{Decision, Reason, Target};
use crate::routing::rules::Subject;
use crate::routing::schemas::Schemas;
use crate::sql::classify::{Classified, ClassifyCache};
use crate::sql::digest::DigestBuf;
use crate::sql::hint::Hint;
use crate::sql::lexer::{Dialect, LexMode};
use crate::topology::ServerId;
use crate::topology::snapshot::Snapshot;

/// The row of `EXPLAIN ROUTE`, from the code that routes.
pub fn explain(snapshot: &Snapshot, shared: &ExplainParts<'_>, who: Who<'_>, sql: &str) -> ExplainRow {
    let Who { user, client, schema } = who;
    let mut buffer = DigestBuf::default();
    let lex = LexMode { dialect: shared.dialect, ..LexMode::default() };
    crate::sql::digest::digest(sql.as_bytes(), lex, &mut buffer);
    let hint = buffer.hint.clone();
    // What running it has taught is told, too.
    let known = shared.known.and_then(|cache| cache.known(&buffer, lex));
    let statement = known.unwrap_or_else(|| Arc::new(crate::sql::classify::classify_digest(&buffer, lex)));
    let entry = user.and_then(|user| shared.accounts.entry(user));
    let decision = decide(&Question {
        statement: &statement,
        sql: sql.as_bytes(),
        hint: hint.as_ref(),
        user: user.unwrap_or(""),
        client,
        schema: schema.map(str::as_bytes),
        pinned: None,
        stays: false,
        in_read_only_transaction: false,
        autocommit: true,
        completes_plainly: true,
        read_only_account: entry.is_some_and(|entry| entry.read_only),
        schemas: Schemas { allowed: entry.map_or(&[], |entry| &entry.schemas[..]), lex, whole: true },
        written: None,
        defined: false,
        set_global: false,
        must_have: MustHave::Any,
        snapshot,
        rules: shared.rules,
        settings: shared.routing,
        prefer: None,
        failed: &[],
        turn: 0,
        load: &|_| Load::default(),
        has: &|_, _| true,
    });
    let cacheable = cacheable(&statement, hint.as_ref(), shared, who, sql);
    ExplainRow {
        class: statement.class.as_str().to_owned(),
        target: target_text(&decision, |id| snapshot.server(id).map(|s| s.name.to_string())),
        server: decision.server.and_then(|id| snapshot.server(id)).map(|s| s.name.to_string()),
        reason: format!("{}: {}{}{}", decision.reason, statement.reason, unasked(shared, who), ignored(hint.as_ref())),
        tables: statement.tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        cacheable,
        digest: format!("{:016x}", statement.digest_hash),
        rule: match decision.reason {
            Reason::Rule(number) => Some(number.to_string()),
            _ => None,
        },
    }
}

/// Rules that ask where the client is cannot be looked at when that is not said.
fn unasked(shared: &ExplainParts<'_>, who: Who<'_>) -> &'static str {
    let asks = shared.rules.0.iter().any(|rule| rule.client.is_some());
    if asks && who.client.is_none() {
        "; rules with `client` were left out: EXPLAIN ROUTE FROM '10.1.2.3' looks at them"
    } else {
        ""
    }
}

/// A word of a hint that means nothing changes nothing, which whoever wrote it has to be told.
fn ignored(hint: Option<&Hint>) -> String {
    let word = hint.and_then(|hint| hint.malformed.as_deref());
    word.map_or(String::new(), |word| {
        format!(
            "; the hint `{word}` is ignored: master, replica, server=NAME, cache=30s and nocache can be said, separated by commas"
        )
    })
}

/// Whose statement it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// The account.
    pub user: Option<&'a str>,
    /// Where its client is. Rules with `client` match nobody of whom that is not known.
    pub client: Option<IpAddr>,
    /// The current schema.
    pub schema: Option<&'a str>,
}

/// What [`explain`] needs besides the servers.
pub struct ExplainParts<'a> {
    /// The rules.
    pub rules: &'a crate::routing::rules::Rules,
    /// The settings.
    pub routing: &'a crate::routing::decide::RoutingSettings,
    /// What the configuration says of accounts.
    pub accounts: &'a Accounts,
    /// How the servers read SQL.
    pub dialect: Dialect,
    /// Judgements on what was run before.
    pub known: Option<&'a ClassifyCache>,
    /// The cache, if there is one.
    pub cache: Option<&'a Cache>,
}

/// `yes`, or `no` and why. Without a cache only the statement and its hint are looked at.
fn cacheable(statement: &Classified, hint: Option<&Hint>, parts: &ExplainParts<'_>, who: Who<'_>, sql: &str) -> String {
    let all = Settings { ttl: Duration::MAX, all: true, refresh_ahead: Duration::ZERO };
    let known = parts.cache.map(|cache| cache.settings.load());
    let settings = known.as_ref().map_or(&all, |known| &**known);
    let schema = who.schema.map(str::as_bytes);
    let (user, client, digest) = (who.user.unwrap_or(""), who.client, statement.digest_hash);
    let rule = parts.rules.first_match(&Subject { user, schema, sql: sql.as_bytes(), digest, client });
    match policy::asked(settings, statement, hint, rule.map(|(number, rule)| (number, &rule.action))) {
        Err(Bypass::NotAsked) => "yes, where a rule or a hint asks for it".to_owned(),
        Err(why) => format!("no: {why}"),
        // Without a schema it is not known which tables are meant.
        Ok(_) if schema.is_none() && statement.tables.iter().any(|table| table.schema.is_none()) => "yes".to_owned(),
        Ok(_) => match parts.cache.map(|cache| cache.may_keep(statement, schema, Instant::now())) {
            Some(Err(Refused::Tables(why))) => format!("no: {}", why.as_str()),
            _ if seldom_asked_again(statement) => "yes, when it is asked for again".to_owned(),
            _ => "yes".to_owned(),
        },
    }
}

fn seldom_asked_again(statement: &Classified) -> bool {
    let (kept, again) = statement.worth.get();
    worth::keeps(kept, again) == Keeps::AskedAgain
}

/// `master`, `replica`, `server:NAME`, `proxy`, `deny`.
fn target_text(decision: &Decision, name: impl Fn(ServerId) -> Option<String>) -> String {
    match (decision.target, decision.server.and_then(name)) {
        (Target::Server, Some(name)) => format!("server:{name}"),
        (target, _) => target.as_str().to_owned(),
    }
}
