//! `config.toml` of the pool: the settings and their defaults. A wrong value is reported and its default used.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::os_text;
use crate::files;

/// The order of the pick inside its tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The quota that is lost soonest comes first, among accounts with room.
    Room,
    /// The most that is left in the week comes first, then in 5 hours.
    Balanced,
}

/// What happens when the main home is in use by another account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parallel {
    /// The picked account gets a home of its own.
    Home,
    /// The launch stays on the live account.
    Off,
}

/// Settings of codex-pool 0.1. What has no successor here is passed over without a word.
const OF_0_1: [&str; 3] = ["version", "proxy", WATCH_INTERVAL_OF_0_1];
/// The successor of this one is `watch_interval`. A number of seconds.
const WATCH_INTERVAL_OF_0_1: &str = "default_watch_interval_seconds";
/// `watch` looks at the service at most this often, and at least that often, seconds.
pub const WATCH_INTERVALS: RangeInclusive<u64> = 1..=86_400;

/// How the report of an unknown name begins.
const UNKNOWN: &str = "unknown setting";

/// What is wrong with a setting.
enum Problem {
    UnknownKey,
    MustBe(&'static str),
}

impl From<&'static str> for Problem {
    fn from(what: &'static str) -> Problem {
        Problem::MustBe(what)
    }
}

/// The settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The real Codex, if it is not the first on PATH.
    pub codex_path: Option<PathBuf>,
    /// The order of the pick.
    pub policy: Policy,
    /// The room that a session is likely to need, percent of one Plus account's 5h window.
    pub session_room: f64,
    /// How many times as urgent another account must be to replace the live one.
    pub switch_margin: f64,
    /// The size of a plan in Plus accounts, by its lower-case name, where it differs from the default.
    pub weights: Vec<(String, f64)>,
    /// Whether API keys are picked when no other account can be used.
    pub api_key_fallback: bool,
    /// Usage older than this is refreshed in the background.
    pub usage_max_age: Duration,
    /// A launch waits for a refresh if all usage is older than this.
    pub max_stale: Duration,
    /// The longest such wait.
    pub launch_refresh_timeout: Duration,
    /// What happens when the main home is in use.
    pub parallel: Parallel,
    /// The shortest time between two usage requests for one account.
    pub min_poll_interval: Duration,
    /// How often `watch` looks at the service.
    pub watch_interval: Duration,
    /// Whether launches start background refreshes.
    pub background_refresh: bool,
    /// Whether an attendant may look after sessions while they run.
    pub attend: bool,
    /// Whether Codex is started without Node if it is known what its launcher starts.
    pub native_start: bool,
    /// Whether an `exec` that reaches its account's limit goes on with another account.
    pub carry_on: bool,
    /// How long an `exec` waits at the limit for the first reset when no other account can go on.
    pub carry_wait: Duration,
    /// The command that tells notices, and its first arguments. Empty: none are told.
    pub notify: Vec<String>,
    /// Hosts beside `auth.openai.com` that refresh tokens may be sent to, in lower case.
    pub allowed_issuers: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            codex_path: None,
            policy: Policy::Room,
            session_room: 40.0,
            switch_margin: 1.1,
            weights: Vec::new(),
            api_key_fallback: false,
            usage_max_age: Duration::from_secs(300),
            max_stale: Duration::from_secs(1800),
            launch_refresh_timeout: Duration::from_millis(1500),
            parallel: Parallel::Home,
            min_poll_interval: Duration::from_secs(60),
            watch_interval: Duration::from_secs(60),
            background_refresh: true,
            attend: true,
            native_start: true,
            carry_on: true,
            carry_wait: Duration::ZERO,
            notify: Vec::new(),
            allowed_issuers: Vec::new(),
        }
    }
}

impl Settings {
    /// Returns whether a problem that [`Settings::load`] reports is only a name that this version does not know: of a newer
    /// version, or of the earlier product. It changes nothing, so that only the doctor needs to tell.
    pub fn is_unknown_name(problem: &str) -> bool {
        problem.contains(UNKNOWN)
    }

    /// Reads `config.toml`. Returns the settings, and what is wrong with the file as sentences.
    pub fn load(path: &Path) -> (Settings, Vec<String>) {
        Settings::read(path).unwrap_or_else(|e| {
            let why = os_text(&e);
            (Settings::default(), vec![format!("cannot read {}: {why}; defaults are used", path.display())])
        })
    }

    /// Reads the settings as [`Settings::load`] does, where a file that cannot be read must not mean the defaults.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<(Settings, Vec<String>)> {
        let Some(bytes) = files::read_small(path, 1 << 20)? else {
            return Ok((Settings::default(), Vec::new()));
        };
        let (settings, problems) = Settings::parse(&String::from_utf8_lossy(&bytes));
        Ok((settings, problems.into_iter().map(|p| format!("{}: {p}", path.display())).collect()))
    }

    /// Reads the text of the file, as [`Settings::load`] does.
    pub fn parse(text: &str) -> (Settings, Vec<String>) {
        let mut settings = Settings::default();
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(e) => {
                let first = e.message().lines().next().unwrap_or("bad TOML").to_owned();
                return (settings, vec![format!("not valid TOML ({first}); defaults are used")]);
            }
        };
        let mut problems = Vec::new();
        if let Some(interval) = table.get(WATCH_INTERVAL_OF_0_1).and_then(watch_interval_of_0_1) {
            settings.watch_interval = interval;
        }
        for (key, value) in table.iter().filter(|(key, _)| !OF_0_1.contains(&key.as_str())) {
            match settings.set(key, value) {
                Ok(()) => {}
                Err(Problem::UnknownKey) => problems.push(format!("{UNKNOWN} `{key}`, which is ignored")),
                Err(Problem::MustBe(what)) => {
                    problems.push(format!("`{key}` must be {what}; its default is used"));
                }
            }
        }
        (settings, problems)
    }

    fn set(&mut self, key: &str, value: &toml::Value) -> Result<(), Problem> {
        const DURATION: &str = "a duration such as \"90s\", \"5m\" or \"1500ms\"";
        let duration = || parse_duration(value).ok_or(DURATION);
        let flag = || value.as_bool().ok_or("true or false");
        let number = |least: f64, what: &'static str| {
            value
                .as_float()
                .or(value.as_integer().map(|i| i as f64))
                .filter(|n| n.is_finite() && *n >= least)
                .ok_or(what)
        };
        match key {
            "codex_path" => {
                let path = value.as_str().filter(|p| p.starts_with('/'));
                self.codex_path = Some(path.ok_or("an absolute path")?.into());
            }
            "policy" => {
                self.policy = match value.as_str() {
                    Some("room") => Policy::Room,
                    Some("balanced") => Policy::Balanced,
                    _ => return Err(Problem::MustBe("\"room\" or \"balanced\"")),
                };
            }
            "parallel" => {
                self.parallel = match value.as_str() {
                    Some("home") => Parallel::Home,
                    Some("off") => Parallel::Off,
                    _ => return Err(Problem::MustBe("\"home\" or \"off\"")),
                };
            }
            "session_room" => self.session_room = number(0.0, "a number of percent, 0 or more")?,
            "switch_margin" => self.switch_margin = number(1.0, "a number of 1 or more")?,
            "weights" => {
                const EXPECTED: &str = "a table of numbers above 0, such as { plus = 1, pro = 10 }";
                let table = value.as_table().ok_or(EXPECTED)?;
                let mut weights = Vec::new();
                for (plan, weight) in table {
                    let weight = weight.as_float().or(weight.as_integer().map(|i| i as f64));
                    let weight = weight.filter(|w| w.is_finite() && *w > 0.0).ok_or(EXPECTED)?;
                    weights.push((plan.to_lowercase(), weight));
                }
                self.weights = weights;
            }
            "api_key_fallback" => self.api_key_fallback = flag()?,
            "background_refresh" => self.background_refresh = flag()?,
            "attend" => self.attend = flag()?,
            "native_start" => self.native_start = flag()?,
            "carry_on" => self.carry_on = flag()?,
            "carry_wait" => self.carry_wait = duration()?,
            "usage_max_age" => self.usage_max_age = duration()?,
            "max_stale" => self.max_stale = duration()?,
            "launch_refresh_timeout" => self.launch_refresh_timeout = duration()?,
            "watch_interval" => {
                let interval = duration()?;
                let fits = WATCH_INTERVALS.contains(&interval.as_secs());
                self.watch_interval = if fits { interval } else { Err("a duration from \"1s\" to \"24h\"")? };
            }
            "min_poll_interval" => self.min_poll_interval = duration()?,
            "notify" => {
                const EXPECTED: &str = "a command as a list, such as [\"notify-send\", \"codex-pool\"]";
                let list = value.as_array().ok_or(EXPECTED)?;
                let words =
                    list.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>();
                self.notify =
                    words.filter(|words| words.first().is_none_or(|w| !w.is_empty())).ok_or(EXPECTED)?;
            }
            "allowed_issuers" => {
                const EXPECTED: &str = "a list of host names, such as [\"login.example.com\"]";
                let list = value.as_array().ok_or(EXPECTED)?;
                self.allowed_issuers = list
                    .iter()
                    .map(|v| v.as_str().map(str::to_lowercase))
                    .collect::<Option<_>>()
                    .ok_or(EXPECTED)?;
            }
            _ => return Err(Problem::UnknownKey),
        }
        Ok(())
    }

    /// Returns whether the size of a plan is known, from the settings or by its name.
    pub fn knows_plan(&self, plan: &str) -> bool {
        const KNOWN: [&str; 13] = [
            "free",
            "go",
            "plus",
            "team",
            "prolite",
            "pro",
            "promax",
            "business",
            "enterprise",
            "edu",
            "edu_pro",
            "edu_plus",
            "education",
        ];
        let plan = plan.to_ascii_lowercase();
        let own = self.weights.iter().any(|(name, _)| name.eq_ignore_ascii_case(&plan));
        own || KNOWN.contains(&plan.as_str()) || plan.starts_with("self_serve_business_")
    }

    /// Returns how many Plus accounts a plan is worth.
    pub fn weight(&self, plan: Option<&str>) -> f64 {
        const BUILT_IN: [(&str, f64); 6] = [
            ("free", 0.1),
            ("go", 0.3),
            ("prolite", 5.0),
            ("pro", 10.0),
            ("edu_pro", 10.0),
            ("promax", 20.0),
        ];
        let named = |name: &str| plan.unwrap_or_default().eq_ignore_ascii_case(name);
        let own = self.weights.iter().map(|(name, weight)| (name.as_str(), *weight));
        own.chain(BUILT_IN).find(|(name, _)| named(name)).map_or(1.0, |(_, weight)| weight)
    }
}

/// Reads `"1500ms"`, `"60s"`, `"5m"`, `"2h"`, `"1d"`, or whole seconds as a number.
fn parse_duration(value: &toml::Value) -> Option<Duration> {
    if let Some(seconds) = value.as_integer() {
        return u64::try_from(seconds).ok().map(Duration::from_secs);
    }
    parse_duration_text(value.as_str()?)
}

/// Parses `90s`, `5m` and the like.
pub fn parse_duration_text(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    let millis = match text[split..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

fn watch_interval_of_0_1(value: &toml::Value) -> Option<Duration> {
    let seconds = u64::try_from(value.as_integer()?).ok()?;
    WATCH_INTERVALS.contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_0_1_are_taken_over_or_passed_over() {
        let old = "version = 1\ndefault_watch_interval_seconds = 30\n[proxy]\nlisten = \"127.0.0.1:4141\"\n";
        let (settings, problems) = Settings::parse(old);
        assert_eq!((settings.watch_interval, problems), (Duration::from_secs(30), Vec::new()));
        let (settings, problems) = Settings::parse(&format!("watch_interval = \"2m\"\n{old}"));
        assert_eq!((settings.watch_interval, problems), (Duration::from_secs(120), Vec::new()));
        let (settings, problems) = Settings::parse("default_watch_interval_seconds = 0");
        assert_eq!((settings, problems), (Settings::default(), Vec::new()));
        assert_eq!(Settings::parse("watch_interval = \"2d\"").1.len(), 1);
    }

    #[test]
    fn a_bad_value_is_reported_and_the_rest_is_used() {
        let (settings, problems) = Settings::parse(
            "policy = \"best\"\nusage_max_age = \"2m\"\nnonsense = 1\nlaunch_refresh_timeout = \"250ms\"\n\
             switch_margin = 0.5\nweights = { Pro = 20 }",
        );
        assert_eq!(settings.usage_max_age, Duration::from_secs(120));
        assert_eq!(settings.launch_refresh_timeout, Duration::from_millis(250));
        assert_eq!((settings.policy, settings.switch_margin), (Policy::Room, 1.1));
        assert_eq!((settings.weight(Some("pro")), settings.weight(Some("free"))), (20.0, 0.1));
        assert_eq!(problems.len(), 3, "{problems:?}");
        let unknown: Vec<&String> = problems.iter().filter(|p| Settings::is_unknown_name(p)).collect();
        assert_eq!(unknown, ["unknown setting `nonsense`, which is ignored"]);
    }

    #[test]
    fn plans_weigh_what_they_hold() {
        let settings = Settings::default();
        let weights = ["prolite", "promax", "edu_pro", "Pro", "self_serve_business_x", "new"];
        assert_eq!(weights.map(|plan| settings.weight(Some(plan))), [5.0, 20.0, 10.0, 10.0, 1.0, 1.0]);
        assert!(settings.knows_plan("self_serve_business_x") && !settings.knows_plan("new"));
        assert!(Settings::parse("weights = { new = 2 }").0.knows_plan("New"));
    }

    #[test]
    fn broken_toml_is_reported_and_means_defaults() {
        let (settings, problems) = Settings::parse("policy = ");
        assert_eq!(settings, Settings::default());
        assert_eq!(problems.len(), 1);
    }
}
