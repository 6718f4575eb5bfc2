//! The rows A to J of the comparison: the arguments of the load generator and the compared figure.
//! `side_by_side` uses them.

use serde_json::Value;

/// One row of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    /// Arguments of the load generator; `{}` is the length of a measurement.
    pub(crate) options: &'static str,
    /// Size of a message in bytes, also for rows that use only our protocol.
    pub(crate) size: u32,
    pub(crate) traffic: Traffic,
    /// Whether the floor joins the messages of one turn into one `send`.
    pub(crate) joined: bool,
    pub(crate) unit: &'static str,
    figure: Figure,
}

/// The traffic to our server in a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// The protocol `hauyna.v1`.
    Protocol,
    /// Bytes to and from the echo endpoint.
    Echo,
}

enum Figure {
    /// Microseconds of server time per event.
    Time(&'static str),
    /// One key of the report.
    Key(&'static str),
    /// Ratio of the slow answers to the typical ones.
    Spread,
}

impl Row {
    /// Returns the compared figure.
    pub(crate) fn total(&self, report: &Value) -> Option<f64> {
        let number = |key: &str| report.get(key)?.as_f64();
        match self.figure {
            Figure::Time(event) => number(&format!("server_us_per_{event}")),
            Figure::Key(key) => number(key),
            Figure::Spread => Some(number("p99_us")? / number("p50_us")?),
        }
    }

    /// Returns the part of the figure that is user space.
    pub(crate) fn user(&self, report: &Value) -> Option<f64> {
        match self.figure {
            Figure::Time(event) => report.get(format!("server_user_us_per_{event}"))?.as_f64(),
            Figure::Key(_) | Figure::Spread => None,
        }
    }
}

/// All rows, in their order.
pub(crate) const ROWS: [Row; 11] = [
    Row {
        name: "A",
        what: "1,000 subscribers",
        ..fan_out("fanout --conns 1000 --rate closed --window 1 --msgs 1000")
    },
    Row {
        name: "B",
        what: "16 outstanding",
        joined: true,
        ..fan_out("fanout --conns 1000 --rate closed --window 16 --msgs 8000")
    },
    Row { name: "C", what: "50 messages/s", ..fan_out("fanout --conns 1000 --rate 50 --secs {}") },
    Row {
        name: "D",
        what: "10,000 subscribers",
        ..fan_out("fanout --conns 10000 --rate closed --window 1 --msgs 100")
    },
    Row {
        name: "E",
        what: "1,000 channels of 10",
        ..fan_out("fanout --conns 10000 --channels 1000 --rate closed --window 1 --msgs 20000")
    },
    Row { name: "F", what: "echo × 100", ..echo("echo --conns 100 --secs {}") },
    Row {
        name: "F2",
        what: "ping request × 100",
        traffic: Traffic::Protocol,
        size: 48,
        ..echo("echo --conns 100 --secs {}")
    },
    Row {
        name: "G",
        what: "echo × 1,000",
        unit: "p99/p50",
        figure: Figure::Spread,
        ..echo("echo --conns 1000 --secs {}")
    },
    Row {
        name: "H",
        what: "idle",
        unit: "B/connection",
        figure: Figure::Key("rss_bytes_per_conn"),
        ..fan_out("idle --conns 10000 --secs {}")
    },
    Row {
        name: "I",
        what: "churn",
        unit: "µs/cycle",
        figure: Figure::Time("cycle"),
        ..fan_out("churn --conns 50 --secs {}")
    },
    Row {
        name: "J",
        what: "20 of 200 stalled",
        size: 8192,
        unit: "MB growth",
        figure: Figure::Key("rss_growth_mb"),
        ..fan_out("slow --conns 200 --stalled 20 --rate 100 --secs 20")
    },
];

const fn fan_out(options: &'static str) -> Row {
    Row {
        name: "",
        what: "",
        options,
        size: 128,
        traffic: Traffic::Protocol,
        joined: false,
        unit: "µs/delivery",
        figure: Figure::Time("delivery"),
    }
}

const fn echo(options: &'static str) -> Row {
    Row { traffic: Traffic::Echo, unit: "µs/round", figure: Figure::Time("round"), ..fan_out(options) }
}
