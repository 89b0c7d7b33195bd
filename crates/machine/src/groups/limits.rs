//! Bounds of what groups may ask for and keep. Those that an operator may lower come with the commands.

use super::command::{Join, OffsetCommit, Sight, Subscription};
use super::refusal::Refusal;
use flotilla_types::limits::{
    GROUP_OFFSETS_MAX, OFFSET_COMMITS_MAX, OFFSET_METADATA_MAX, SUBSCRIPTION_MAX_TOPICS,
    TOPIC_MAX_PARTITIONS, TOPIC_PATTERN_MAX_LEN,
};

/// Most groups of one coordinator.
pub const GROUPS_MAX: usize = 50_000;
/// Most members of one group.
pub const MEMBERS_MAX: u32 = 10_000;
/// Longest rack, client name or peer address of a member, in bytes.
pub const TEXT_MAX: usize = 255;
/// Most topics and patterns in one sight.
pub const SIGHT_MAX: usize = 20_000;

/// Text from outside as an error shows it: escaped and cut.
pub(crate) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// At most [`TEXT_MAX`] bytes, cut between characters.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn invalid(field: &'static str, value: String, expected: &'static str) -> Refusal {
    Refusal::Invalid { field, value, expected }
}

/// A subscription that can be kept. One that names nothing is a member that wants nothing: it makes no sense.
pub(super) fn check_subscription(subscription: &Subscription) -> Result<(), Refusal> {
    let Subscription { topics, pattern, rack, client, .. } = subscription;
    if topics.is_empty() && pattern.is_none() {
        return Err(invalid("subscription", "empty".to_owned(), "expected topics or a pattern"));
    }
    if topics.len() > SUBSCRIPTION_MAX_TOPICS {
        let count = format!("{} topics", topics.len());
        return Err(invalid("subscription.topics", count, "expected at most 1000"));
    }
    if let Some(pattern) = pattern
        && !(1..=TOPIC_PATTERN_MAX_LEN).contains(&pattern.len())
    {
        let length = format!("{} bytes", pattern.len());
        return Err(invalid("subscription.topic_regex", length, "expected 1 to 1024 bytes"));
    }
    for (field, text) in
        [("subscription.rack_id", rack.as_deref()), ("subscription.client_id", Some(&**client))]
    {
        if let Some(text) = text
            && text.len() > TEXT_MAX
        {
            return Err(invalid(field, format!("{} bytes", text.len()), "expected at most 255 bytes"));
        }
    }
    Ok(())
}

/// Room for one more group.
pub(super) fn check_groups(groups: usize) -> Result<(), Refusal> {
    if groups >= GROUPS_MAX {
        return Err(Refusal::LimitReached { what: "groups", limit: GROUPS_MAX as u64 });
    }
    Ok(())
}

/// A client that may join, as far as its own words go.
pub(super) fn check_join(join: &Join) -> Result<(), Refusal> {
    check_subscription(&join.subscription)?;
    check_sight(&join.sight)
}

/// What a leader proposes is bounded too.
pub(super) fn check_sight(sight: &Sight) -> Result<(), Refusal> {
    let things = sight.topics.len().saturating_add(sight.patterns.len()).saturating_add(sight.gone.len());
    if things > SIGHT_MAX {
        return Err(Refusal::LimitReached {
            what: "topics and patterns seen at once",
            limit: SIGHT_MAX as u64,
        });
    }
    let mut lives = sight.topics.values().flatten();
    if let Some(life) = lives.find(|life| life.partitions > TOPIC_MAX_PARTITIONS) {
        return Err(invalid(
            "sight.topics",
            format!("{} partitions", life.partitions),
            "expected at most 10000",
        ));
    }
    match sight.patterns.keys().find(|pattern| pattern.len() > TOPIC_PATTERN_MAX_LEN) {
        Some(pattern) => {
            let length = format!("{} bytes", pattern.len());
            Err(invalid("sight.patterns", length, "expected 1 to 1024 bytes"))
        }
        None => Ok(()),
    }
}

/// Not too many at once.
pub(super) fn check_commits(offsets: &[OffsetCommit]) -> Result<(), Refusal> {
    if offsets.len() > OFFSET_COMMITS_MAX {
        return Err(invalid("offsets", format!("{} offsets", offsets.len()), "expected at most 10000"));
    }
    Ok(())
}

/// One that can be kept.
pub(super) fn check_commit(commit: &OffsetCommit) -> Result<(), Refusal> {
    if commit.metadata.len() > OFFSET_METADATA_MAX {
        let length = format!("{} bytes", commit.metadata.len());
        return Err(invalid("metadata", length, "expected at most 4096 bytes"));
    }
    if i64::try_from(commit.offset.get()).is_err() {
        let offset = commit.offset.to_string();
        return Err(invalid("committed_offset", offset, "expected 0 to 9223372036854775807"));
    }
    Ok(())
}

/// Room for partitions with an offset: how many there are to be.
pub(super) fn check_room(offsets: usize) -> Result<(), Refusal> {
    if offsets > GROUP_OFFSETS_MAX {
        return Err(Refusal::LimitReached { what: "offsets of the group", limit: GROUP_OFFSETS_MAX as u64 });
    }
    Ok(())
}
