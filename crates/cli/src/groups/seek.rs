//! `flotilla group seek`: moves committed offsets. Members that read meanwhile go on from the new place.
//!
//! | Written | Means |
//! | --- | --- |
//! | `start`, `end` | the first record kept; after the last one there is |
//! | `N` | offset N, in every partition chosen |
//! | `+N`, `-N` | N records on; N records back |
//! | `@TIME`, or a time alone | the first record at or after it: RFC 3339, a date, Unix milliseconds with `@`, `@-1h` |
//! | `group:X` | where group X is |
//! | `file:F` | lines of topic, partition and offset, by spaces, tabs or commas; `file:-` is stdin |

use crate::args::OutputArgument;
use crate::confirm::confirm;
use crate::exit::Failed;
use crate::output::{Column, Shape, helped, print};
use crate::session::Session;
use clap::Args;
use flotilla_client::Admin;
use flotilla_client::groups::admin::{Move, SeekTo};
use flotilla_client::groups::{CommitOffset, TopicPartition};
use flotilla_types::{Offset, PartitionId, TimestampMs, TopicName};
use serde_json::{Value, json};

/// `flotilla group seek`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The group
    #[arg(add = crate::completion::groups())]
    group: String,
    /// Where to: start, end, N, +N on, -N back, @TIME, @-1h, group:X, file:F
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: String,
    /// Only these topics (else all that the group has offsets of)
    #[arg(long = "topic", value_delimiter = ',', value_name = "TOPIC", add = crate::completion::topics())]
    topics: Vec<String>,
    /// Only these partitions of the topic
    #[arg(short = 'p', long = "partition", value_delimiter = ',', value_name = "N", requires = "topics")]
    partitions: Vec<u32>,
    /// Say what would be moved, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) output: OutputArgument,
}

const MOVE: Shape = Shape {
    what: "a partition that was moved, or not",
    columns: &[
        Column::new("topic", "the topic"),
        Column::new("partition", "the partition"),
        Column::new("from_offset", "where it was, absent = nothing was committed"),
        Column::new("to_offset", "where it goes"),
        Column::new("moved_by", "records on, or back if negative"),
        Column::wide("clamped_from", "where it was to go, if that is not in the log"),
        Column::new("error", "why it was not moved, if it was not"),
    ],
};

/// A place as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    To(SeekTo),
    At(u64),
    File(String),
}

impl Place {
    fn parse(text: &str, now: TimestampMs) -> Result<Self, String> {
        let shift = |digits: &str, sign: i64| {
            let count = digits.parse::<u64>().ok().and_then(|count| i64::try_from(count).ok());
            count.map(|count| Self::To(SeekTo::ShiftBy(sign * count)))
        };
        let place = match text {
            "start" => Some(Self::To(SeekTo::Earliest)),
            "end" => Some(Self::To(SeekTo::Latest)),
            _ => match (text.split_once(':'), text.split_at_checked(1)) {
                (Some(("group", other)), _) if !other.is_empty() => {
                    Some(Self::To(SeekTo::LikeGroup(other.to_owned())))
                }
                (Some(("file", path)), _) if !path.is_empty() => Some(Self::File(path.to_owned())),
                (_, Some(("@", moment))) => {
                    return crate::offset::time(moment, now).map(|time| Self::To(SeekTo::Time(time)));
                }
                (_, Some(("+", count))) => shift(count, 1),
                (_, Some(("-", count))) => shift(count, -1),
                _ => text.parse().ok().map(Self::At),
            },
        };
        place
            .or_else(|| Some(Self::To(SeekTo::Time(crate::offset::time(text, now).ok()?))))
            .ok_or_else(|| format!("{text:?} is not start, end, N, +N, -N, @TIME, group:X or file:F"))
    }
}

/// Reads lines of topic, partition and offset.
fn offsets(text: &str) -> Result<Vec<CommitOffset>, String> {
    let mut offsets = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> =
            line.split(|c: char| c == ',' || c.is_whitespace()).filter(|w| !w.is_empty()).collect();
        if number == 1 && words.first() == Some(&"topic") {
            continue;
        }
        let read = match words[..] {
            [topic, partition, offset] => match (partition.parse(), offset.parse()) {
                (Ok(partition), Ok(offset)) => {
                    Some(CommitOffset::new(topic, PartitionId(partition), Offset(offset)))
                }
                _ => None,
            },
            _ => None,
        };
        offsets.push(read.ok_or_else(|| format!("line {number} is not topic, partition, offset: {line:?}"))?);
    }
    if offsets.is_empty() { Err("there are no offsets in it".to_owned()) } else { Ok(offsets) }
}

/// Runs the command.
pub async fn run(session: &Session, arguments: &Arguments) -> Result<(), Failed> {
    let output = arguments.output.output;
    if helped(output, &MOVE)? {
        return Ok(());
    }
    let place = Place::parse(&arguments.to, session.clock.wall())
        .map_err(|why| Failed::Usage(format!("--to: {why}")))?;
    let listed = match &place {
        Place::File(path) => {
            let text = if path == "-" {
                std::io::read_to_string(std::io::stdin())?
            } else {
                std::fs::read_to_string(path).map_err(|error| Failed::Other(format!("{path}: {error}")))?
            };
            Some(offsets(&text).map_err(|why| Failed::Usage(format!("{path}: {why}")))?)
        }
        _ => None,
    };
    let admin = session.client().await?.admin();
    let chosen = chosen(&admin, arguments).await?;
    let to = match (place, listed) {
        (Place::To(to), _) => to,
        (_, Some(mut listed)) => {
            listed.retain(|offset| is_chosen(&chosen, &offset.topic, offset.partition));
            SeekTo::Offsets(listed)
        }
        (Place::At(offset), None) => {
            let partitions =
                if chosen.is_empty() { all(&admin, &arguments.group).await? } else { chosen.clone() };
            let at = |tp: &TopicPartition| CommitOffset::new(tp.topic.as_str(), tp.partition, Offset(offset));
            SeekTo::Offsets(partitions.iter().map(at).collect())
        }
        (Place::File(_), None) => SeekTo::Offsets(Vec::new()),
    };
    if to == SeekTo::Offsets(Vec::new()) {
        return Err(Failed::NotFound(format!("group {} has no partition to move", arguments.group)));
    }
    if !arguments.dry_run {
        confirm(
            &format!("move the offsets of group {} to {}", arguments.group, arguments.to),
            arguments.yes,
        )?;
    }
    let plan = admin.seek_group(&arguments.group, &chosen, &to, arguments.dry_run).await?;
    let mut rows: Vec<Value> = plan.moves.iter().map(move_row).collect();
    rows.extend(plan.errors.iter().map(|(topic, partition, error)| {
        json!({ "topic": topic, "partition": partition, "error": error.to_string() })
    }));
    print(output, &MOVE, rows)?;
    match plan.errors.into_iter().next() {
        Some((.., error)) => Err(error.into()),
        None => Ok(()),
    }
}

fn move_row(moved: &Move) -> Value {
    let by = moved.from_offset.map(|from| i128::from(moved.to_offset.get()) - i128::from(from.get()));
    json!({
        "topic": moved.topic,
        "partition": moved.partition,
        "from_offset": moved.from_offset,
        "to_offset": moved.to_offset,
        "moved_by": by.and_then(|by| i64::try_from(by).ok()),
        "clamped_from": moved.clamped_from,
        "error": null,
    })
}

fn is_chosen(chosen: &[TopicPartition], topic: &str, partition: PartitionId) -> bool {
    chosen.is_empty() || chosen.iter().any(|tp| tp.topic.as_str() == topic && tp.partition == partition)
}

/// The partitions that the command line names; none = all.
async fn chosen(admin: &Admin, arguments: &Arguments) -> Result<Vec<TopicPartition>, Failed> {
    let mut chosen = Vec::new();
    for topic in &arguments.topics {
        let name = TopicName::new(topic).map_err(|error| Failed::Usage(error.to_string()))?;
        let count = admin.topic(topic).await?.partition_count;
        if let Some(missing) = arguments.partitions.iter().find(|p| **p >= count) {
            return Err(Failed::NotFound(format!("partition {topic}/{missing} does not exist")));
        }
        let wanted =
            (0..count).filter(|p| arguments.partitions.is_empty() || arguments.partitions.contains(p));
        chosen.extend(wanted.map(|p| TopicPartition { topic: name.clone(), partition: PartitionId(p) }));
    }
    Ok(chosen)
}

/// Every partition that a group has to do with.
async fn all(admin: &Admin, group: &str) -> Result<Vec<TopicPartition>, Failed> {
    let positions = admin.group(group).await?.positions;
    let of = |position: flotilla_client::groups::admin::Position| {
        let topic = TopicName::new(&position.topic).ok()?;
        Some(TopicPartition { topic, partition: position.partition })
    };
    Ok(positions.into_iter().filter_map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = 1_800_000_000_000;

    #[test]
    fn places_read_as_the_page_says() {
        use SeekTo::{Earliest, Latest, LikeGroup, ShiftBy, Time};
        let ten = 1_793_527_200_000;
        for (text, place) in [
            ("start", Place::To(Earliest)),
            ("end", Place::To(Latest)),
            ("123", Place::At(123)),
            ("+10", Place::To(ShiftBy(10))),
            ("-10", Place::To(ShiftBy(-10))),
            ("@-1h", Place::To(Time(NOW - 3_600_000))),
            ("@2026-11-01T10:00Z", Place::To(Time(ten))),
            ("2026-11-01T10:00Z", Place::To(Time(ten))),
            ("2026-11-01", Place::To(Time(ten - 36_000_000))),
            ("@1793527200000", Place::To(Time(ten))),
            ("group:billing", Place::To(LikeGroup("billing".to_owned()))),
            ("file:a:b", Place::File("a:b".to_owned())),
        ] {
            assert_eq!(Place::parse(text, NOW), Ok(place), "{text}");
        }
        for text in ["", "x", "+", "group:", "file:", "@", "1:2", "+-1", "--1"] {
            assert!(Place::parse(text, NOW).is_err(), "{text:?}");
        }
    }

    #[test]
    fn files_of_offsets_are_read_and_slips_are_named() {
        let read =
            offsets("topic,partition,offset\n# from yesterday\norders,0,17\norders 1\t18\n\n").unwrap();
        let seen: Vec<(u32, u64)> = read.iter().map(|o| (o.partition.get(), o.offset.get())).collect();
        assert_eq!(seen, [(0, 17), (1, 18)]);
        assert!(offsets("orders 0 17\norders 1").unwrap_err().contains("line 2"));
        assert!(offsets("orders 0 -1").is_err() && offsets("# nothing").is_err());
    }
}
