//! The usage in an answer of the usage endpoint. Windows are identified by their length, not by their position, and
//! unknown fields are ignored. It makes no requests.

use serde_json::Value;

use super::window::{Credits, ExtraLimit, Source, Spending, Usage, Window};
use crate::text::clean;

/// The most limits of single models that are kept.
const MAX_EXTRA: usize = 32;
/// The longest window, seconds: a year.
const MAX_WINDOW: i64 = 366 * 86_400;

/// Returns the usage in an answer of the usage endpoint that came at `now` (Unix seconds by the local clock); `None` if
/// it is no such answer.
pub fn parse(answer: &Value, now: i64) -> Option<Usage> {
    let limit = answer.get("rate_limit");
    if limit.is_none() && answer.get("plan_type").is_none() && answer.get("credits").is_none() {
        return None;
    }
    let limit = limit.unwrap_or(&Value::Null);
    let (windows, unclear) = windows(limit, now);
    let banked = answer.pointer("/rate_limit_reset_credits/available_count").and_then(number);
    Some(Usage {
        fetched_at: now,
        source: Source::Api,
        limit_reached: reached(limit),
        windows,
        credits: answer.get("credits").filter(|c| c.is_object()).map(credits),
        plan: answer.get("plan_type").and_then(Value::as_str).map(|plan| clean(plan, &[])),
        extra: extra(answer, now),
        spending: answer.get("spend_control").filter(|s| s.is_object()).map(|s| spending(s, now)),
        banked_resets: banked.map_or(0, |count| count.clamp(0.0, 1_000.0) as u32),
        unclear,
    })
}

/// A number, which may come as text.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|n| n.is_finite())
}

/// Yes or no, which may come as text.
fn flag(object: &Value, name: &str) -> Option<bool> {
    let value = object.get(name)?;
    value.as_bool().or_else(|| value.as_str()?.trim().to_ascii_lowercase().parse().ok())
}

/// Whether a `rate_limit` object says that its limit is reached.
fn reached(limit: &Value) -> bool {
    flag(limit, "limit_reached") == Some(true) || flag(limit, "allowed") == Some(false)
}

fn spending(value: &Value, now: i64) -> Spending {
    let resets = |place: &Value| {
        let seconds = |name: &str| place.get(name).and_then(number).map(|s| s as i64);
        after(seconds("reset_after_seconds"), now).or(seconds("reset_at")).or(seconds("resets_at"))
    };
    let resets_at = value.get("individual_limit").and_then(resets).or_else(|| resets(value));
    Spending { reached: flag(value, "reached") == Some(true), resets_at }
}

/// A time from the seconds until then, by our own clock, so that a wrong one does no harm.
fn after(seconds: Option<i64>, now: i64) -> Option<i64> {
    seconds.map(|after| now.saturating_add(after.clamp(0, MAX_WINDOW)))
}

/// The windows of a `rate_limit` object, shortest first, one of each length, and whether one of them was not
/// understood.
fn windows(limit: &Value, now: i64) -> (Vec<Window>, bool) {
    let both = || ["primary_window", "secondary_window"].iter().filter_map(|name| limit.get(name));
    let there = |value: &&Value| value.as_object().map_or(!value.is_null(), |object| !object.is_empty());
    let mut windows: Vec<Window> = both().filter_map(|value| window(value, now)).collect();
    let unclear = both().filter(there).count() > windows.len();
    windows.sort_by(|a, b| {
        a.window_seconds.cmp(&b.window_seconds).then(b.used_percent.total_cmp(&a.used_percent))
    });
    windows.dedup_by_key(|w| w.window_seconds);
    (windows, unclear)
}

fn window(value: &Value, now: i64) -> Option<Window> {
    let seconds = |name: &str| value.get(name).and_then(number).map(|s| s as i64);
    let window_seconds = seconds("limit_window_seconds").filter(|s| (1..=MAX_WINDOW).contains(s))?;
    let used_percent = value.get("used_percent").and_then(number)?.clamp(0.0, 100.0);
    let resets_at = after(seconds("reset_after_seconds"), now).or(seconds("reset_at"));
    Some(Window { window_seconds, used_percent, resets_at })
}

fn credits(value: &Value) -> Credits {
    let flag = |name: &str| flag(value, name).unwrap_or(false);
    let balance = match value.get("balance") {
        Some(Value::String(text)) => Some(clean(text, &[])),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Credits { has_credits: flag("has_credits"), unlimited: flag("unlimited"), balance }
}

/// Limits of single models.
fn extra(answer: &Value, now: i64) -> Vec<ExtraLimit> {
    let list = answer.get("additional_rate_limits").and_then(Value::as_array);
    let limit = |entry: &Value| {
        let name = clean(entry.get("limit_name")?.as_str()?, &[]);
        let limit = entry.get("rate_limit")?;
        Some(ExtraLimit { name, windows: windows(limit, now).0, limit_reached: reached(limit) })
    };
    list.into_iter().flatten().filter_map(limit).take(MAX_EXTRA).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw_window(used: f64, length: i64, after: i64) -> Value {
        json!({"used_percent": used, "limit_window_seconds": length, "reset_after_seconds": after, "reset_at": 1})
    }

    #[test]
    fn windows_are_recognised_by_length_in_any_position() {
        let answer = json!({"plan_type": "plus", "rate_limit": {"allowed": true, "limit_reached": false,
            "primary_window": raw_window(20.0, 604_800, 86_400),
            "secondary_window": raw_window(30.0, 18_000, 3_600)},
            "additional_rate_limits": null, "credits": {"has_credits": false, "unlimited": false, "balance": "0"},
            "something_new": {"a": [1]}});
        let usage = parse(&answer, 1_000).unwrap();
        let seen: Vec<_> = usage.windows.iter().map(|w| (w.name(), w.used_percent, w.resets_at)).collect();
        assert_eq!(seen, [("5h".to_owned(), 30.0, Some(4_600)), ("1week".to_owned(), 20.0, Some(87_400))]);
        assert_eq!((usage.limit_reached, usage.plan.as_deref()), (false, Some("plus")));
    }

    #[test]
    fn windows_may_be_null_missing_or_of_any_length() {
        let only = |limit: Value| parse(&json!({ "rate_limit": limit }), 0).unwrap().windows;
        assert_eq!(only(Value::Null), []);
        assert_eq!(only(json!({"primary_window": null, "secondary_window": null})), []);
        let names = |limit| only(limit).iter().map(Window::name).collect::<Vec<_>>();
        assert_eq!(names(json!({"secondary_window": raw_window(1.0, 86_400, 1)})), ["1day"]);
        assert_eq!(names(json!({"primary_window": raw_window(1.0, 2_592_000, 1)})), ["30day"]);
        assert_eq!(names(json!({"primary_window": raw_window(1.0, 5_400, 1)})), ["90m"]);
    }

    #[test]
    fn a_limit_is_reached_when_either_field_says_so() {
        let reached = |limit: Value| parse(&json!({ "rate_limit": limit }), 0).unwrap().limit_reached;
        assert!(reached(json!({"allowed": true, "limit_reached": true})));
        assert!(reached(json!({"allowed": false})));
        assert!(!reached(json!({"allowed": true})));
    }

    #[test]
    fn limits_of_single_models_are_kept_apart() {
        let answer = json!({"rate_limit": {"primary_window": raw_window(1.0, 18_000, 1)},
            "additional_rate_limits": [
                {"limit_name": "tiny\u{1b}[2J", "rate_limit": {"primary_window": raw_window(100.0, 18_000, 5)}},
                {"limit_name": 3}, null, "x"]});
        let usage = parse(&answer, 0).unwrap();
        assert_eq!(usage.windows[0].used_percent, 1.0);
        assert_eq!((usage.extra.len(), usage.extra[0].name.as_str()), (1, "tiny [2J"));
        assert_eq!(usage.extra[0].windows[0].used_percent, 100.0);
    }

    #[test]
    fn numbers_may_come_as_text_and_what_is_not_understood_is_said() {
        let limit = |used: Value| {
            json!({"rate_limit": {"allowed": "true", "primary_window":
                {"used_percent": used, "limit_window_seconds": "18000", "reset_after_seconds": " 60 "}}})
        };
        let usage = parse(&limit(json!("93.5")), 1_000).unwrap();
        assert_eq!((usage.windows[0].used_percent, usage.windows[0].resets_at), (93.5, Some(1_060)));
        assert!(!usage.unclear);
        for odd in [json!("much"), json!("NaN"), Value::Null] {
            let usage = parse(&limit(odd), 1_000).unwrap();
            assert!(usage.windows.is_empty() && usage.unclear);
        }
    }

    #[test]
    fn spending_limits_and_banked_resets_are_read() {
        let answer = json!({"rate_limit": null, "rate_limit_reset_credits": {"available_count": "2"},
            "spend_control": {"reached": true, "individual_limit": {"reset_after_seconds": 60}}});
        let usage = parse(&answer, 1_000).unwrap();
        assert_eq!(usage.banked_resets, 2);
        assert_eq!(usage.exhausted_until(1_000), Some(Some(1_060)));
        assert_eq!(usage.exhausted_until(1_060), None);
        let unsaid = parse(&json!({"spend_control": {"reached": true}, "plan_type": "x"}), 1_000).unwrap();
        assert_eq!(unsaid.exhausted_until(9_000_000), Some(None));
    }

    #[test]
    fn nonsense_is_refused_or_bounded_and_never_panics() {
        for answer in [json!(null), json!([]), json!("x"), json!({}), json!({"error": "x"})] {
            assert_eq!(parse(&answer, 0), None, "{answer}");
        }
        let odd = json!({"rate_limit": {
            "primary_window": {"used_percent": -1e308, "limit_window_seconds": 18_000, "reset_after_seconds": 1e308},
            "secondary_window": {"used_percent": "a", "limit_window_seconds": 0}}, "credits": 5, "plan_type": 7});
        let usage = parse(&odd, i64::MAX / 2).unwrap();
        assert_eq!((usage.windows.len(), usage.windows[0].used_percent), (1, 0.0));
    }
}
