//! The command line: which command, which file, how to log. What the commands do is given by a [`Program`].

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{self, Config, Mistake, Severity};

/// Where the configuration is looked for when no file is named.
pub const DEFAULT_FILES: [&str; 2] = ["config/sluice.toml", "/etc/sluice/sluice.toml"];
/// The exit code for a wrong configuration (and, by clap, for a wrong command line).
pub const EXIT_WRONG_CONFIG: u8 = 2;

/// The bodies of the commands.
pub trait Program {
    /// Runs the proxy until it is told to stop. `file` is the configuration's path, for reloads; `takeover`: in the place of the
    /// one that runs.
    fn run(&self, config: Config, file: PathBuf, takeover: bool) -> ExitCode;

    /// The routing decision for a statement, as lines to print.
    ///
    /// # Errors
    /// What could not be done, as a line to print.
    fn explain(&self, config: &Config, sql: &str) -> Result<String, String>;

    /// Tries every server and says one thing about each: what is fine, or what is not.
    fn check_online(&self, config: &Config) -> Vec<Result<String, String>>;
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Parser, Debug)]
#[command(
    name = "sluice",
    version,
    about = "A MySQL-protocol proxy: one address in front of master-master servers and their replicas"
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Verb>,
    /// Configuration file [default: config/sluice.toml, then /etc/sluice/sluice.toml]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look, on stderr; RUST_LOG filters them
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the proxy (what `sluice` alone does)
    Run {
        /// Take the listening sockets over from the proxy that runs, which goes on with its sessions until they end
        #[arg(long)]
        takeover: bool,
    },
    /// Read the configuration and say all that is wrong with it
    Check {
        /// Also try the servers
        #[arg(long)]
        online: bool,
    },
    /// Print where a statement would go, and why
    Explain {
        /// The statement
        sql: String,
    },
    /// Print a configuration made from one of ProxySQL, and on stderr what of it has no counterpart
    ImportProxysql {
        /// A proxysql.cnf, or a dump of ProxySQL's tables as SQL
        file: PathBuf,
        /// A host group of the cluster that is wanted, where the configuration has several
        #[arg(long, value_name = "NUMBER")]
        hostgroup: Option<String>,
    },
}

/// The whole program: reads the arguments (the first is the program's name), does what they say, gives the exit code.
pub fn main(args: impl IntoIterator<Item = impl Into<OsString> + Clone>, program: &dyn Program) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(e) => {
            // Help and version are "errors" too, for stdout and with exit code 0.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(EXIT_WRONG_CONFIG));
        }
    };
    let (out, err) = (&mut std::io::stdout(), &mut std::io::stderr());
    let verb = arguments.command.unwrap_or(Verb::Run { takeover: false });
    let runs = matches!(verb, Verb::Run { .. });
    if runs {
        init_logging(arguments.log_format);
    }
    // Whoever collects lines of JSON gets nothing else.
    let logged = runs && matches!(arguments.log_format, LogFormat::Json);
    if let Verb::ImportProxysql { file, hostgroup } = &verb {
        return import_proxysql(file, hostgroup.as_deref(), out, err);
    }
    let file = match find(arguments.config, |path| path.exists()) {
        Ok(file) => file,
        Err(why) => {
            match logged {
                true => tracing::error!("{why}"),
                false => drop(writeln!(err, "{why}")),
            }
            return ExitCode::from(EXIT_WRONG_CONFIG);
        }
    };
    match config::load(&file) {
        Ok(config) => {
            tell(&config.warnings, logged, err);
            obey(verb, config, file, program, out, err)
        }
        Err(mistakes) => {
            tell(&mistakes, logged, err);
            ExitCode::from(EXIT_WRONG_CONFIG)
        }
    }
}

/// Mistakes as people read them, or as lines of the log.
fn tell(mistakes: &[Mistake], logged: bool, err: &mut dyn Write) {
    if !logged {
        let _ = write!(err, "{}", report(mistakes));
        return;
    }
    for Mistake { severity, message, advice, file, line, .. } in mistakes {
        let advice = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        match severity {
            Severity::Error => tracing::error!(target: "sluice::config", file, line, "{message}{advice}"),
            Severity::Warning => tracing::warn!(target: "sluice::config", file, line, "{message}{advice}"),
        }
    }
}

fn obey(verb: Verb, config: Config, file: PathBuf, program: &dyn Program, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    match verb {
        Verb::Run { takeover } => program.run(config, file, takeover),
        Verb::ImportProxysql { file, hostgroup } => import_proxysql(&file, hostgroup.as_deref(), out, err),
        Verb::Explain { sql } => match program.explain(&config, &sql) {
            Ok(text) => {
                let _ = writeln!(out, "{}", text.trim_end());
                ExitCode::SUCCESS
            }
            Err(why) => {
                let _ = writeln!(err, "{why}");
                ExitCode::FAILURE
            }
        },
        Verb::Check { online } => {
            let plural = if config.servers.len() == 1 { "" } else { "s" };
            let _ = writeln!(out, "{}: fine, {} server{plural}", file.display(), config.servers.len());
            if !online {
                return ExitCode::SUCCESS;
            }
            let mut all_fine = true;
            for found in program.check_online(&config) {
                match found {
                    Ok(line) => {
                        let _ = writeln!(out, "ok     {line}");
                    }
                    Err(line) => {
                        all_fine = false;
                        let _ = writeln!(out, "WRONG  {line}");
                    }
                }
            }
            if all_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn import_proxysql(file: &Path, hostgroup: Option<&str>, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string());
    match text.and_then(|text| config::import::proxysql(&text, hostgroup)) {
        Ok(imported) => {
            let _ = write!(out, "{}", imported.toml);
            for note in imported.notes {
                let _ = writeln!(err, "note: {note}");
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            let _ = writeln!(err, "error: {}: {why}", file.display());
            ExitCode::from(EXIT_WRONG_CONFIG)
        }
    }
}

/// The file that was named, or the first of the usual ones that exists.
fn find(named: Option<PathBuf>, exists: impl Fn(&Path) -> bool) -> Result<PathBuf, String> {
    if let Some(file) = named {
        return Ok(file);
    }
    let usual = DEFAULT_FILES.map(PathBuf::from);
    let found = usual.iter().find(|path| exists(path)).cloned();
    found.ok_or_else(|| {
        format!("error: no configuration: neither {} nor {} exists; name one with --config", DEFAULT_FILES[0], DEFAULT_FILES[1])
    })
}

/// All mistakes, one below the other, and how many there are.
pub fn report(mistakes: &[Mistake]) -> String {
    let mut text = String::new();
    for mistake in mistakes {
        text.push_str(&mistake.to_string());
        text.push_str("\n\n");
    }
    let count = |severity| mistakes.iter().filter(|m| m.severity == severity).count();
    let say = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, _) => {}
        (errors, 0) => text.push_str(&format!("{}\n", say(errors, "error"))),
        (errors, warnings) => text.push_str(&format!("{}, {}\n", say(errors, "error"), say(warnings, "warning"))),
    }
    text
}

/// Sends log lines to stderr, filtered by `RUST_LOG` (default: `info`). A second call changes nothing.
pub fn init_logging(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let builder = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let (filter, wrong) = match builder().parse(&wanted) {
        Ok(filter) => (filter, None),
        Err(e) => (builder().parse_lossy(""), Some(e)),
    };
    // A line that cannot be written (a full disk, a pipe that nobody reads any more) is lost. Saying so on stderr, too, would panic,
    // and end the task that had something to tell: the monitor, failover, an operator's login.
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let _ = match format {
        LogFormat::Text => logger.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logger.json().flatten_event(true).try_init(),
    };
    if let Some(e) = wrong {
        tracing::warn!("RUST_LOG={wanted} is not understood ({e}); logging at level info");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    struct Nothing;

    impl Program for Nothing {
        fn run(&self, _: Config, _: PathBuf, _: bool) -> ExitCode {
            ExitCode::from(7)
        }
        fn explain(&self, _: &Config, sql: &str) -> Result<String, String> {
            Ok(format!("explained {sql}"))
        }
        fn check_online(&self, _: &Config) -> Vec<Result<String, String>> {
            vec![Ok("db1".to_owned()), Err("db2: refused".to_owned())]
        }
    }

    fn said(verb: Verb) -> (ExitCode, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = obey(verb, Config::default(), PathBuf::from("x.toml"), &Nothing, &mut out, &mut err);
        out.append(&mut err);
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
        for (line, fine) in [
            ("sluice", true),
            ("sluice run", true),
            ("sluice run --takeover", true),
            ("sluice check --takeover", false),
            ("sluice --config a.toml run", true),
            ("sluice run --config a.toml --log-format json", true),
            ("sluice check --online", true),
            ("sluice explain SELECT", true),
            ("sluice import-proxysql proxysql.cnf", true),
            ("sluice import-proxysql proxysql.cnf --hostgroup 10", true),
            ("sluice import-proxysql", false),
            ("sluice explain", false),
            ("sluice --log-format xml", false),
            ("sluice chekc", false),
            ("sluice --online", false),
        ] {
            assert_eq!(Arguments::try_parse_from(line.split(' ')).is_ok(), fine, "{line}");
        }
    }

    #[test]
    fn commands_say_what_they_found() {
        assert_eq!(said(Verb::Check { online: false }), (ExitCode::SUCCESS, "x.toml: fine, 0 servers\n".to_owned()));
        assert_eq!(said(Verb::Explain { sql: "S".into() }), (ExitCode::SUCCESS, "explained S\n".to_owned()));
        let (code, text) = said(Verb::Check { online: true });
        assert_eq!(code, ExitCode::FAILURE);
        assert!(text.ends_with("ok     db1\nWRONG  db2: refused\n"), "{text}");
        assert_eq!(said(Verb::Run { takeover: false }).0, ExitCode::from(7));
    }

    /// Harm: collectors of JSON got lines that were none.
    #[test]
    fn mistakes_are_lines_of_the_log_where_it_is_json() {
        #[derive(Clone, Default)]
        struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let wrong = Mistake::at("f.toml", "[proxy]\nlistn = 1\n", 8..13, "unknown key", Some("did you mean `listen`?".into()));
        let mistakes = [wrong.clone().warning(), wrong];
        let sink = Sink::default();
        let writer = sink.clone();
        let logger = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        let mut err = Vec::new();
        tracing::subscriber::with_default(logger, || tell(&mistakes, true, &mut err));
        assert!(err.is_empty());
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for (line, level) in lines.iter().zip(["WARN", "ERROR"]) {
            assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
            assert!(line.contains(&format!("\"level\":\"{level}\"")) && line.contains("\"line\":2"), "{line}");
            assert!(line.contains("\"message\":\"unknown key; did you mean `listen`?\""), "{line}");
        }
        tell(&mistakes, false, &mut err);
        assert_eq!(String::from_utf8(err).unwrap(), report(&mistakes));
    }

    #[test]
    fn the_usual_files_in_their_order() {
        let file =
            |named: Option<&str>, there: &[&str]| find(named.map(PathBuf::from), |p| there.iter().any(|t| p == Path::new(t)));
        assert_eq!(file(None, &DEFAULT_FILES), Ok(PathBuf::from(DEFAULT_FILES[0])));
        assert_eq!(file(None, &DEFAULT_FILES[1..]), Ok(PathBuf::from(DEFAULT_FILES[1])));
        assert_eq!(file(Some("x"), &DEFAULT_FILES), Ok(PathBuf::from("x")));
        assert!(file(None, &[]).unwrap_err().contains("--config"));
    }

    #[test]
    fn a_wrong_file_ends_with_two() {
        let file = std::env::temp_dir().join(format!("sluice-cli-{}.toml", std::process::id()));
        std::fs::write(&file, "[proxy]\nlistn = 1\n").unwrap();
        let path = file.display().to_string();
        assert_eq!(main(["sluice", "check", "--config", &path], &Nothing), ExitCode::from(2));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(main(["sluice", "check", "--config", &path], &Nothing), ExitCode::from(2));
    }
}
