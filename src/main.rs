//! The command line. Takes the arguments, the environment and the settings file. Runs a subcommand;
//! without one, the server. The exit code is 0 for success, 1 for failure, and 2 for wrong
//! arguments or when Stripe or the page to check did not answer.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Arg, ArgMatches, Command};
use clickstamp::app::App;
use clickstamp::clock::Clock;
use clickstamp::command::user::{self, Action};
use clickstamp::command::{
    backfill, backup, check, healthcheck, prune, reconcile, replay, restore,
};
use clickstamp::config::{self, Config, LogFormat, Sources, VARIABLES};
use clickstamp::dashboard;
use clickstamp::demo::Demo;
use clickstamp::server::Listener;
use jiff::tz::TimeZone;
use tokio::runtime::Runtime;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Recording a visit allocates small buffers that another thread frees. The system's allocator is
/// slow at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = command().get_matches();
    match run(&matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("clickstamp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let settings = VARIABLES.iter().map(|variable| {
        let flag =
            variable.name.trim_start_matches("CLICKSTAMP_").to_ascii_lowercase().replace('_', "-");
        let default = if variable.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", variable.default)
        };
        Arg::new(variable.name)
            .long(flag)
            .global(true)
            .value_name("VALUE")
            .hide_short_help(true)
            .help(format!("{} [env: {}]{default}", variable.meaning, variable.name))
    });
    let file = Arg::new("CLICKSTAMP_CONFIG").long("config").global(true).value_name("FILE");
    Command::new("clickstamp")
        .version(env!("CARGO_PKG_VERSION"))
        .about("First-party click IDs for Stripe payment links, and a ledger that explains every conversion")
        .after_help("Without a command, the server starts. `clickstamp --help` lists every setting.")
        .arg(file.help("a TOML file of settings, such as data_dir = \"/var/lib/clickstamp\" [env: CLICKSTAMP_CONFIG]"))
        .args(settings)
        .subcommand(Command::new("serve").about("Run the server (the default)"))
        .subcommand(Command::new("demo").about(
            "Try it: a temporary server with sample data, a shop, and simulated Stripe and AnyTrack",
        ))
        .subcommand(Command::new("config").about("Print the effective settings, secrets masked"))
        .subcommand(
            Command::new("user")
                .about("Add a user, or change a password")
                .subcommand_required(true)
                .subcommand(Command::new("add").about("Add a user").arg(email()))
                .subcommand(Command::new("passwd").about("Change a password").arg(email())),
        )
        .subcommand(check::command())
        .subcommand(backfill::command())
        .subcommand(reconcile::command())
        .subcommand(replay::command())
        .subcommand(prune::command())
        .subcommand(backup::command())
        .subcommand(restore::command())
        .subcommand(Command::new("healthcheck").about("Exit 0 if the server is ready"))
}

fn email() -> Arg {
    Arg::new("email")
        .required(true)
        .help("the user's email address; the password is asked for, or read from standard input")
}

fn run(matches: &ArgMatches) -> Result<ExitCode> {
    if let Some(("demo", given)) = matches.subcommand() {
        return demo(given).map(|()| ExitCode::SUCCESS);
    }
    let sources = sources(matches)?;
    let (name, arguments) = matches.subcommand().unwrap_or(("serve", matches));
    if name == "config" {
        return print_config(&sources).map(|()| ExitCode::SUCCESS);
    }
    let config = Config::read(&sources, |path| std::fs::read_to_string(path))?;
    start_logging(&config)?;
    let runtime = runtime()?;
    survive_file_size_limit(&runtime);
    let done = match name {
        "backup" => backup::run(&config, arguments),
        "restore" => restore::run(&config, arguments),
        "check" => return runtime.block_on(check::run(&config, arguments)),
        "backfill" => return runtime.block_on(backfill::run(config, arguments)),
        "reconcile" => return runtime.block_on(reconcile::run(config, arguments)),
        "replay" => return runtime.block_on(replay::run(config, arguments)),
        "user" => {
            let (action, arguments) =
                arguments.subcommand().context("the command line requires one")?;
            let action = if action == "add" { Action::Add } else { Action::ChangePassword };
            let email =
                arguments.get_one::<String>("email").context("the command line requires it")?;
            runtime.block_on(user::run(&config, action, email))
        }
        "prune" => runtime.block_on(prune::run(config, arguments)),
        "healthcheck" => runtime.block_on(healthcheck::run(&config)),
        _ => runtime.block_on(serve(config)),
    };
    // Something that blocks a thread, such as a name that nobody resolves, must not keep an ordered stop from its end.
    runtime.shutdown_timeout(Duration::from_millis(250));
    done.map(|()| ExitCode::SUCCESS)
}

fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("could not start the runtime")
}

/// Handles SIGXFSZ, which would otherwise end the process when a file reaches its size limit.
/// With the handler, the write fails and is treated like a full disk.
fn survive_file_size_limit(runtime: &Runtime) {
    let _context = runtime.enter();
    // Registering is enough: the handler is never removed.
    if let Err(error) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(libc::SIGXFSZ))
    {
        tracing::warn!(%error, "a file size limit will end the process");
    }
}

/// Runs `clickstamp demo`. It reads neither the environment nor a settings file, and accepts only
/// the flags for the address and the log.
fn demo(given: &ArgMatches) -> Result<()> {
    let flag = |name: &str| given.get_one::<String>(name);
    let known = ["CLICKSTAMP_LISTEN", "CLICKSTAMP_LOG"];
    let others = VARIABLES.iter().map(|variable| variable.name).chain(["CLICKSTAMP_CONFIG"]);
    if let Some(other) =
        others.filter(|name| !known.contains(name)).find(|name| flag(name).is_some())
    {
        let name = other.trim_start_matches("CLICKSTAMP_").to_ascii_lowercase().replace('_', "-");
        bail!("the demo has no --{name}: it never touches a real installation");
    }
    let listen = flag("CLICKSTAMP_LISTEN").map_or("127.0.0.1:0", String::as_str);
    let log = flag("CLICKSTAMP_LOG").map_or("warn", String::as_str);
    let config = Config::with(&[("CLICKSTAMP_LISTEN", listen), ("CLICKSTAMP_LOG", log)])?;
    start_logging(&config)?;
    runtime()?.block_on(async {
        let mut stop = std::pin::pin!(stop_signal());
        let (now, zone) = (Clock::system().now(), TimeZone::system());
        let demo = tokio::select! {
            prepared = Demo::prepare(&config.listen, now, &zone) => prepared?,
            () = &mut stop => return Ok(()),
        };
        writeln!(std::io::stdout(), "{}", demo.walk_through()).context("could not print")?;
        demo.run(stop).await
    })
}

fn sources(matches: &ArgMatches) -> Result<Sources> {
    let given = |name: &str| matches.get_one::<String>(name).cloned();
    let flags: BTreeMap<_, _> = VARIABLES
        .iter()
        .filter_map(|variable| Some((variable.name.to_owned(), given(variable.name)?)))
        .collect();
    let environment = Sources::environment();
    let path = given("CLICKSTAMP_CONFIG").or_else(|| environment.get("CLICKSTAMP_CONFIG").cloned());
    let file = match path {
        None => BTreeMap::new(),
        Some(path) => {
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
            Sources::parse_file(&text).map_err(|fault| anyhow!("{path}: {fault}"))?
        }
    };
    Ok(Sources { flags, environment, file })
}

fn start_logging(config: &Config) -> Result<()> {
    let filter: Targets =
        config.log.parse().context("CLICKSTAMP_LOG is not a valid tracing filter")?;
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Text => subscriber.with(log).init(),
        LogFormat::Json => subscriber.with(log.json()).init(),
    }
    Ok(())
}

fn print_config(sources: &Sources) -> Result<()> {
    for (name, value, origin) in config::describe(sources) {
        println!("{name}={value}  # {origin}");
    }
    Config::read(sources, |path| std::fs::read_to_string(path)).map(|_| ()).map_err(Into::into)
}

async fn serve(config: Config) -> Result<()> {
    let stop = stop_signal();
    let listener = Listener::bind(&config.listen).await?;
    let app = App::build(config, Clock::system()).await?;
    tracing::info!("listening on {}", listener.describe());
    let configured = app.state().config.configured_pages_url();
    let base = configured.unwrap_or_else(|| listener.describe());
    if let Some(url) = dashboard::setup_url(&app.state().store, &base).await? {
        tracing::info!("there is no user yet; create the first one here: {url}");
    }
    app.run(listener, stop).await
}

/// Resolves at SIGTERM or Ctrl-C. Takes the signal from this call on, so that one that comes during the start is not lost.
fn stop_signal() -> impl Future<Output = ()> {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    async move {
        let mut terminate = match terminate {
            Ok(terminate) => terminate,
            Err(error) => {
                tracing::warn!(%error, "cannot listen for SIGTERM; only Ctrl-C shuts down gracefully");
                let _ = tokio::signal::ctrl_c().await; // On an error there is no signal left to wait for.
                return;
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}
