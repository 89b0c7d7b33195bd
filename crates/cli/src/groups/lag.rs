//! `flotilla group lag`: how far groups are behind. The broker counts; this adds up.

use crate::args::OutputArgument;
use crate::exit::Failed;
use crate::output::{Column, Shape, helped, print};
use crate::session::Session;
use clap::{Args, ValueEnum};
use flotilla_client::groups::admin::{Group, Position};
use flotilla_types::duration as durations;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Groups that are asked for at a time.
const LOOKS_MAX: usize = 16;

/// `flotilla group lag`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Groups (else all of them)
    #[arg(add = crate::completion::groups())]
    groups: Vec<String>,
    /// What a line stands for (else a partition; with all groups, a group)
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Only lines so far behind, in records: '>1000', '>=1', '=0'
    #[arg(long, value_parser = Records::parse, value_name = "'>N'")]
    lag: Option<Records>,
    /// Only lines so far behind, in time: '>30s'
    #[arg(long, value_parser = Time::parse, value_name = "'>TIME'")]
    time_lag: Option<Time>,
    #[command(flatten)]
    pub(super) output: OutputArgument,
}

/// What a line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Partition,
    Topic,
    Member,
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    More,
    AtLeast,
    Less,
    AtMost,
    Equal,
}

const SIGNS: [(&str, Sign); 5] =
    [(">=", Sign::AtLeast), ("<=", Sign::AtMost), (">", Sign::More), ("<", Sign::Less), ("=", Sign::Equal)];

impl Sign {
    fn split(text: &str) -> Result<(Self, &str), String> {
        let found = SIGNS.iter().find_map(|(sign, means)| Some((*means, text.strip_prefix(sign)?.trim())));
        found.ok_or_else(|| format!("{text:?} begins with none of > >= < <= ="))
    }

    fn holds<T: PartialOrd>(self, value: &T, bound: &T) -> bool {
        match self {
            Self::More => value > bound,
            Self::AtLeast => value >= bound,
            Self::Less => value < bound,
            Self::AtMost => value <= bound,
            Self::Equal => value == bound,
        }
    }
}

/// A condition on records, `>1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records(Sign, u64);

impl Records {
    /// Reads `>N`, `>=N`, `<N`, `<=N`, `=N`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (sign, bound) = Sign::split(text)?;
        let bound = bound.parse().map_err(|_| format!("{bound:?} is not a number of records"))?;
        Ok(Self(sign, bound))
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().find(|(_, sign)| *sign == self.0).map_or("", |(text, _)| text);
        write!(f, "{sign}{}", self.1)
    }
}

/// A condition on time, `>30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(Sign, Duration);

impl Time {
    /// Reads `>30s` and so on.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (sign, bound) = Sign::split(text)?;
        Ok(Self(sign, durations::parse(bound)?))
    }
}

const PARTITION: Shape = Shape {
    what: "a group's place in a partition",
    columns: &[
        Column::new("group_id", "the group"),
        Column::new("topic", "the topic"),
        Column::new("partition", "the partition"),
        Column::new("committed_offset", "the next record to read, absent = nothing is committed"),
        Column::new("end_offset", "the end of what it may read"),
        Column::new("lag", "records between"),
        Column::new("time_lag", "how long ago the first of them was appended"),
        Column::new("member_id", "who reads it"),
    ],
};

const TOPIC: Shape = Shape {
    what: "a group's lag in a topic",
    columns: &[
        Column::new("group_id", "the group"),
        Column::new("topic", "the topic"),
        Column::new("partitions", "how many partitions"),
        Column::new("lag", "records to be read"),
        Column::new("time_lag", "the longest of its partitions"),
    ],
};

const MEMBER: Shape = Shape {
    what: "a member's lag",
    columns: &[
        Column::new("group_id", "the group"),
        Column::new("member_id", "the member, absent = partitions that nobody reads"),
        Column::new("partitions", "how many partitions"),
        Column::new("lag", "records to be read"),
        Column::new("time_lag", "the longest of its partitions"),
    ],
};

const GROUP: Shape = Shape {
    what: "a group's lag",
    columns: &[
        Column::new("group_id", "the group"),
        Column::new("state", "how it is"),
        Column::new("member_count", "how many members it has"),
        Column::new("partitions", "how many partitions"),
        Column::new("lag", "records to be read"),
        Column::new("time_lag", "the longest of its partitions"),
    ],
};

/// One line, with what it is chosen by.
#[derive(Debug)]
struct Line {
    row: Value,
    lag: u64,
    time_lag: Duration,
}

/// Runs the command.
pub async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failed> {
    let by = arguments.by.unwrap_or(if arguments.groups.is_empty() { By::Group } else { By::Partition });
    let shape = match by {
        By::Partition => &PARTITION,
        By::Topic => &TOPIC,
        By::Member => &MEMBER,
        By::Group => &GROUP,
    };
    let output = arguments.output.output;
    if helped(output, shape)? {
        return Ok(());
    }
    let admin = session.client().await?.admin();
    let mut names = arguments.groups.clone();
    if names.is_empty() {
        names = admin.groups("").await?.into_iter().map(|group| group.group_id).collect();
    }
    let mut rows = Vec::new();
    let looks = names.into_iter().map(|name| {
        let admin = &admin;
        async move { admin.group(&name).await }
    });
    // In the order of their names, whoever answers first.
    let mut groups = futures::stream::iter(looks).buffered(LOOKS_MAX);
    while let Some(group) = groups.next().await {
        let group = match group {
            // It went away since the list was made.
            Err(error) if arguments.groups.is_empty() && Failed::from(error.clone()).code() == 3 => continue,
            group => group?,
        };
        let lines = lines(&group, by).into_iter().filter(|line| {
            arguments.lag.is_none_or(|Records(sign, bound)| sign.holds(&line.lag, &bound))
                && arguments.time_lag.is_none_or(|Time(sign, bound)| sign.holds(&line.time_lag, &bound))
        });
        rows.extend(lines.map(|line| line.row));
    }
    print(output, shape, rows)
}

/// A position as every command prints it.
pub(super) fn position_row(group: &str, position: &Position) -> Value {
    json!({
        "group_id": group,
        "topic": position.topic,
        "partition": position.partition,
        "committed_offset": position.committed_offset,
        "end_offset": position.end_offset,
        "lag": position.lag,
        "time_lag": position.time_lag.map(durations::format),
        "member_id": position.member_id,
    })
}

fn lines(group: &Group, by: By) -> Vec<Line> {
    let time_lag = |position: &Position| position.time_lag.unwrap_or_default();
    if by == By::Partition {
        let line =
            |p: &Position| Line { row: position_row(&group.group_id, p), lag: p.lag, time_lag: time_lag(p) };
        return group.positions.iter().map(line).collect();
    }
    let mut sums: BTreeMap<&str, (u64, u64, Duration)> = BTreeMap::new();
    if by == By::Group {
        sums.insert("", (0, 0, Duration::ZERO));
    }
    for position in &group.positions {
        let name = match by {
            By::Topic => position.topic.as_str(),
            By::Member => position.member_id.as_str(),
            By::Group | By::Partition => "",
        };
        let (partitions, lag, longest) = sums.entry(name).or_default();
        *partitions += 1;
        *lag += position.lag;
        *longest = (*longest).max(time_lag(position));
    }
    let line = |(name, (partitions, lag, longest)): (&str, (u64, u64, Duration))| {
        let mut row = json!({
            "group_id": group.group_id,
            "partitions": partitions,
            "lag": lag,
            "time_lag": durations::format(longest),
        });
        match by {
            By::Topic => row["topic"] = json!(name),
            By::Member => row["member_id"] = json!(name),
            By::Group | By::Partition => {
                row["state"] = json!(group.state.name());
                row["member_count"] = json!(group.member_count);
            }
        }
        Line { row, lag, time_lag: longest }
    };
    sums.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_client::groups::admin::GroupState;
    use flotilla_types::{Offset, PartitionId};

    fn group() -> Group {
        let position = |topic: &str, partition, lag, seconds, member: &str| Position {
            topic: topic.to_owned(),
            partition: PartitionId(partition),
            committed_offset: Some(Offset(10)),
            end_offset: Some(Offset(10 + lag)),
            lag,
            time_lag: Some(Duration::from_secs(seconds)),
            member_id: member.to_owned(),
        };
        Group {
            group_id: "billing".to_owned(),
            state: GroupState::Stable,
            group_epoch: 3,
            assignment_epoch: 3,
            assignor: "uniform".to_owned(),
            coordinator: None,
            topic_regex: String::new(),
            topics: vec!["a".to_owned(), "b".to_owned()],
            member_count: 2,
            lag: None,
            members: Vec::new(),
            positions: vec![
                position("a", 0, 5, 2, "m1"),
                position("a", 1, 0, 0, "m2"),
                position("b", 0, 7, 90, "m1"),
            ],
            paused_until: None,
        }
    }

    fn sums(by: By) -> Vec<(u64, u64)> {
        lines(&group(), by).iter().map(|line| (line.lag, line.time_lag.as_secs())).collect()
    }

    #[test]
    fn lag_adds_up_by_what_was_asked() {
        assert_eq!(sums(By::Partition), [(5, 2), (0, 0), (7, 90)]);
        assert_eq!(sums(By::Topic), [(5, 2), (7, 90)]);
        assert_eq!(sums(By::Member), [(12, 90), (0, 0)]);
        assert_eq!(sums(By::Group), [(12, 90)]);
        let empty = Group { positions: Vec::new(), ..group() };
        assert_eq!(lines(&empty, By::Group).len(), 1, "a group without offsets is a line too");
        assert_eq!(lines(&empty, By::Topic).len(), 0);
    }

    #[test]
    fn conditions_read_as_the_page_says() {
        for (text, value, holds) in [
            (">1000", 1001, true),
            (">1000", 1000, false),
            (">=1000", 1000, true),
            ("<5", 4, true),
            ("<=5", 6, false),
            ("= 0", 0, true),
        ] {
            let Records(sign, bound) = Records::parse(text).unwrap();
            assert_eq!(sign.holds(&value, &bound), holds, "{value} {text}");
        }
        assert!(Records::parse("1000").is_err() && Records::parse(">x").is_err());
        let Time(sign, bound) = Time::parse(">30s").unwrap();
        assert!(
            sign.holds(&Duration::from_secs(31), &bound) && !sign.holds(&Duration::from_secs(30), &bound)
        );
        assert_eq!(Records::parse(">= 7").unwrap().to_string(), ">=7");
    }
}
