//! The words of the language: names, durations, rates, sizes, hosts, methods. Each is read whole or refused with a cure.

use std::net::IpAddr;
use std::time::Duration;

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Flaw {
    pub(crate) fn new(code: &'static str, message: String, hint: &str) -> Self {
        Self { code, message, hint: hint.to_owned() }
    }
}

/// Longest duration that means anything here.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// Most requests per unit and most burst: far above any real gateway, far below an overflow of the arithmetic.
pub(crate) const MAX_RATE: u64 = 1_000_000_000;

/// Largest size: what one request or response could ever need.
const MAX_SIZE: u64 = 1 << 40;

/// RFC 3986, section 3.3, without percent-encoded triplets.
pub(crate) fn is_pchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// `[a-z][a-z0-9-]{0,62}`.
pub(crate) fn name(text: &str) -> Result<String, Flaw> {
    let well_formed = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if well_formed {
        return Ok(text.to_owned());
    }
    let hint = "a name has 1 to 63 lower-case letters, digits and hyphens, a letter first";
    Err(Flaw::new("bad-name", format!("`{text}` is not a name"), hint))
}

/// Splits `15s` into 15 and `s`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|sign: char| !sign.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

/// An integer and one of `ms`, `s`, `m`, `h`, `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, Flaw> {
    let read = number_and_unit(text).and_then(|(number, unit)| match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    });
    read.filter(|duration| !duration.is_zero() && *duration <= MAX_DURATION).ok_or_else(|| {
        let hint = "write an integer with its unit: \"500ms\", \"15s\", \"10m\", \"12h\", \"7d\"";
        Flaw::new("bad-duration", format!("`{text}` is not a duration"), hint)
    })
}

/// Requests per unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many, at least one.
    pub count: u64,
    /// In which time.
    pub per: Duration,
}

impl Rate {
    /// The time in which one comes back.
    pub fn interval(&self) -> Duration {
        // More than 2³² in a unit is beyond what can be written.
        self.per / u32::try_from(self.count).unwrap_or(u32::MAX)
    }
}

/// An integer, `/`, and one of `s`, `m`, `h`, `d`.
pub(crate) fn rate(text: &str) -> Result<Rate, Flaw> {
    let read = text.split_once('/').and_then(|(count, unit)| {
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse::<u64>().ok().filter(|count| digits && (1..=MAX_RATE).contains(count))?;
        Some(Rate { count, per: Duration::from_secs(seconds) })
    });
    let hint = "write a positive integer per unit: \"10/s\", \"600/m\", \"1000/h\", \"5000/d\"";
    read.ok_or_else(|| Flaw::new("bad-rate", format!("`{text}` is not a rate"), hint))
}

/// An integer and one of `B`, `KiB`, `MiB`, `GiB`.
pub(crate) fn size(text: &str) -> Result<u64, Flaw> {
    let read = number_and_unit(text).and_then(|(number, unit)| {
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        number.checked_mul(1 << shift).filter(|size| *size <= MAX_SIZE)
    });
    let hint = "write an integer with its unit: \"512B\", \"64KiB\", \"4MiB\", \"1GiB\"";
    read.ok_or_else(|| Flaw::new("bad-size", format!("`{text}` is not a size"), hint))
}

/// A DNS name in its one spelling, or `*.` and a DNS name.
pub(crate) fn host(text: &str) -> Result<String, Flaw> {
    let bad = |message: String, hint: &str| Err(Flaw::new("bad-host", message, hint));
    if !text.is_ascii() {
        let folded: Vec<String> = text.to_lowercase().split('.').map(a_label).collect();
        return bad(format!("`{text}` is not in A-labels"), &format!("write `{}`", folded.join(".")));
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return bad(format!("`{text}` is not in lower case"), &format!("write `{}`", text.to_ascii_lowercase()));
    }
    if let Some(without) = text.strip_suffix('.') {
        return bad(format!("`{text}` ends with a dot"), &format!("write `{without}`"));
    }
    let bare = text.strip_prefix("*.").unwrap_or(text);
    if bare.contains('*') {
        return bad(format!("`{text}` has a `*` inside"), "only the whole left-most label may be `*`");
    }
    if bare.contains(':') || bare.parse::<IpAddr>().is_ok() {
        return bad(format!("`{text}` is not a DNS name"), "write the name alone, without port and scheme");
    }
    if bare.len() > 253 || !bare.split('.').all(is_label) || !bare.contains('.') || numeric_end(bare) {
        return bad(
            format!("`{text}` is not a DNS name"),
            "write labels of letters, digits and hyphens, joined by dots",
        );
    }
    Ok(text.to_owned())
}

/// RFC 1123, section 2.1: letters, digits and inner hyphens, at most 63.
pub(crate) fn is_label(label: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(inside) && !label.starts_with('-') && !label.ends_with('-')
}

/// Whether the last label is a number, which some resolvers read as an IPv4 address in disguise.
pub(crate) fn numeric_end(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    last.bytes().all(|byte| byte.is_ascii_digit()) || hexadecimal
}

/// An upper-case method that rules may name. `OPTIONS` belongs to CORS, `TRACE` and `CONNECT` reach no API.
pub(crate) fn method(text: &str) -> Result<String, Flaw> {
    let bad = |message: String, hint: &str| Err(Flaw::new("bad-method", message, hint));
    match text {
        "*" => return bad("`*` is not a method".into(), "list the methods"),
        "OPTIONS" => return bad("`OPTIONS` has no rules".into(), "preflights are a matter of CORS"),
        "TRACE" | "CONNECT" | "PRI" => return bad(format!("`{text}` reaches no API"), "leave it out"),
        _ => {}
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return bad(format!("`{text}` is not in upper case"), &format!("write `{}`", text.to_ascii_uppercase()));
    }
    let token = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if !token {
        return bad(format!("`{text}` is not a method"), "write an HTTP method such as `GET`");
    }
    Ok(text.to_owned())
}

/// A fold without which two spellings of one header name would differ: case, and `_` for `-`.
pub(crate) fn folded_header(name: &str) -> String {
    name.chars().map(|sign| if sign == '_' { '-' } else { sign.to_ascii_lowercase() }).collect()
}

/// The known word nearest to `word`, when it is near enough to be what was meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let bound = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// RFC 3492: the label as DNS carries it. Only for hints, so an overflow falls back to the text as it is.
fn a_label(label: &str) -> String {
    if label.is_ascii() {
        return label.to_owned();
    }
    punycode(label).map_or_else(|| label.to_owned(), |encoded| format!("xn--{encoded}"))
}

/// RFC 3492, section 6.3.
fn punycode(label: &str) -> Option<String> {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    let mut output: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(output.len()).ok()?;
    let mut handled = basic;
    if basic > 0 {
        output.push('-');
    }
    let (mut code, mut delta, mut bias) = (128_u32, 0_u32, 72_u32);
    let total = u32::try_from(label.chars().count()).ok()?;
    while handled < total {
        let next = label.chars().map(u32::from).filter(|&point| point >= code).min()?;
        delta = delta.checked_add((next - code).checked_mul(handled + 1)?)?;
        code = next;
        for point in label.chars().map(u32::from) {
            if point < code {
                delta = delta.checked_add(1)?;
            }
            if point != code {
                continue;
            }
            let mut rest = delta;
            let mut position = BASE;
            loop {
                let threshold = position.saturating_sub(bias).clamp(T_MIN, T_MAX);
                if rest < threshold {
                    break;
                }
                output.push(digit(threshold + (rest - threshold) % (BASE - threshold))?);
                rest = (rest - threshold) / (BASE - threshold);
                position += BASE;
            }
            output.push(digit(rest)?);
            bias = adapt(delta, handled + 1, handled == basic);
            delta = 0;
            handled += 1;
        }
        delta = delta.checked_add(1)?;
        code += 1;
    }
    Some(output)
}

/// Punycode counts `a` to `z`, then `0` to `9`.
fn digit(value: u32) -> Option<char> {
    char::from_digit(if value < 26 { value + 10 } else { value - 26 }, 36)
}

/// RFC 3492, section 6.1.
fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut steps = 0;
    while delta > 455 {
        delta /= 35;
        steps += 36;
    }
    steps + 36 * delta / (delta + 38)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_their_unit() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(size("4MiB"), Ok(4 << 20));
        assert_eq!(size("0B"), Ok(0));
        assert_eq!(rate("10/s"), Ok(Rate { count: 10, per: Duration::from_secs(1) }));
        for text in
            ["", "15", "s", "1h30m", "-1s", "1.5s", "0s", "99999999999999999999s", "400d", "18446744073709551615d"]
        {
            assert_eq!(duration(text).unwrap_err().code, "bad-duration", "{text}");
        }
        for text in ["", "4", "4MB", "-1B", "18446744073709551615KiB", "2000GiB"] {
            assert_eq!(size(text).unwrap_err().code, "bad-size", "{text}");
        }
        for text in ["", "10", "0/s", "+1/s", "10/w", "10/", "/s", "1000000001/s"] {
            assert_eq!(rate(text).unwrap_err().code, "bad-rate", "{text}");
        }
    }

    #[test]
    fn a_host_has_one_spelling_and_the_hint_tells_it() {
        assert_eq!(host("orders.api.corp.example"), Ok("orders.api.corp.example".into()));
        assert_eq!(host("*.tenants.corp.example"), Ok("*.tenants.corp.example".into()));
        let table = [
            ("Orders.corp.example", "write `orders.corp.example`"),
            ("orders.corp.example.", "write `orders.corp.example`"),
            ("bücher.corp.example", "write `xn--bcher-kva.corp.example`"),
            ("Ürün.corp.example", "write `xn--rn-wkab.corp.example`"),
            ("他们为什么不说中文.example", "write `xn--ihqwcrb4cv8a8dqg056pqjye.example`"),
            ("a.*.example", "only the whole left-most label may be `*`"),
            ("10.0.0.1", "write the name alone, without port and scheme"),
            ("orders.example:443", "write the name alone, without port and scheme"),
        ];
        for (text, hint) in table {
            assert_eq!(host(text).unwrap_err().hint, hint, "{text}");
        }
        for text in ["", "*", "*.", "localhost", "a..b", "-a.example", "a_b.example", "a.example.1", "a.0x7f"] {
            assert_eq!(host(text).unwrap_err().code, "bad-host", "{text}");
        }
    }

    #[test]
    fn methods_are_listed_in_upper_case() {
        assert_eq!(method("GET"), Ok("GET".into()));
        assert_eq!(method("VERSION-CONTROL"), Ok("VERSION-CONTROL".into()));
        for text in ["", "*", "get", "OPTIONS", "TRACE", "CONNECT", "G ET", "GET\t"] {
            assert_eq!(method(text).unwrap_err().code, "bad-method", "{text}");
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        assert_eq!(nearest("metods", ["methods", "paths"]), Some("methods"));
        assert_eq!(nearest("hots", ["hosts", "paths"]), Some("hosts"));
        assert_eq!(nearest("banana", ["hosts", "paths"]), None);
    }
}
