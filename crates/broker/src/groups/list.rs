//! Groups by name, page by page, from all coordinators.

use super::describe::{Stand, Timed, by_id, stands, total};
use super::lead::look;
use super::{Answer, Call};
use super::{Error, Group, GroupPage, GroupState, ListGroups};
use crate::broker::Broker;
use crate::context::Context;
use flotilla_types::{GroupId, ShardId, TopicName};
use futures::future::try_join_all;
use std::str::FromStr;

/// Groups of a page where the request says nothing, and at most.
const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// Which groups: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    state: Option<GroupState>,
    topic: Option<TopicName>,
    /// More records than this are not consumed.
    lag_above: Option<u64>,
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut filter = Self::default();
        for word in text.split([' ', ',']).filter(|word| !word.is_empty()) {
            let known = if let Some(name) = word.strip_prefix("state=") {
                let states = [GroupState::Empty, GroupState::Reconciling, GroupState::Stable];
                filter.state = states.into_iter().find(|state| state.name().eq_ignore_ascii_case(name));
                filter.state.is_some()
            } else if let Some(name) = word.strip_prefix("topic=") {
                filter.topic = TopicName::new(name).ok();
                filter.topic.is_some()
            } else if let Some(number) = word.strip_prefix("lag>") {
                filter.lag_above = number.parse().ok();
                filter.lag_above.is_some()
            } else {
                false
            };
            if !known {
                let expected = "expected state=EMPTY|RECONCILING|STABLE, topic=<name>, lag><records>";
                return Err(Error::invalid("filter", word, expected));
            }
        }
        Ok(filter)
    }
}

impl Broker {
    /// A page of groups, by way of any node.
    pub async fn list_groups(&self, context: &Context, list: ListGroups) -> Result<GroupPage, Error> {
        self.counted_group(self.try_list_groups(context, list).await)
    }

    async fn try_list_groups(&self, context: &Context, list: ListGroups) -> Result<GroupPage, Error> {
        self.serving().map_err(Error::Quarantined)?;
        list.filter.parse::<Filter>()?;
        let after = match list.page_token.as_str() {
            "" => None,
            token => Some(
                GroupId::new(token)
                    .map_err(|_| Error::invalid("page_token", token, "expected one that a page gave"))?,
            ),
        };
        let size = if list.page_size == 0 { PAGE_DEFAULT } else { list.page_size.min(PAGE_MAX) };
        let coordinators: Vec<ShardId> = self.routes().coordinators.iter().map(|c| c.shard).collect();
        let nobody = GroupId::new("all").expect("it follows the rule of names");
        if coordinators.is_empty() {
            let why = "coordinators are not placed yet".to_owned();
            return Err(Error::Loading { group: nobody, why });
        }
        // Each is asked for a whole page: all of it may be of one.
        let asked = coordinators.into_iter().map(|shard| {
            let (after, filter) = (after.clone(), list.filter.clone());
            let call = Call::List { coordinator: shard.get(), after, limit: size, filter };
            self.ask_coordinator_shard(context, shard, &nobody, call)
        });
        let mut groups = Vec::new();
        let mut more = false;
        for answer in try_join_all(asked).await? {
            let Answer::Listed { groups: some, more: has_more } = answer else {
                return Err(Error::Lost(format!("a coordinator answered {answer:?}")));
            };
            groups.extend(some);
            more |= has_more;
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        more |= groups.len() > size as usize;
        groups.truncate(size as usize);
        let last = groups.last().filter(|_| more).map(|group| group.id.to_string());
        Ok(GroupPage { groups, next_page_token: last.unwrap_or_default() })
    }

    pub(super) async fn list_here(
        &self,
        id: ShardId,
        after: Option<GroupId>,
        limit: u32,
        filter: &str,
    ) -> Result<Answer, Error> {
        let filter: Filter = filter.parse()?;
        let nobody = GroupId::new("all").expect("it follows the rule of names");
        let shard = self
            .led_coordinator(id)
            .ok_or_else(|| Error::NotCoordinator { group: nobody.clone(), leader: None })?;
        self.settled(&nobody, &shard).await?;
        let limit = limit.clamp(1, PAGE_MAX) as usize;
        let routes = self.routes();
        let ids = by_id(&routes);
        // Lag is known to the partitions' leaders only: who passes everything else is asked about in one go.
        let most = if filter.lag_above.is_some() { usize::MAX } else { limit + 1 };
        let mut found: Vec<(Group, Vec<Stand>)> = look(&shard, |groups| {
            groups
                .iter()
                .filter(|(name, _)| after.as_ref().is_none_or(|after| *name > after))
                .map(|(name, group)| (self.summary(groups, name, group), group))
                .filter(|(group, _)| filter.state.is_none_or(|state| state == group.state))
                .filter(|(group, rules)| {
                    filter.topic.as_ref().is_none_or(|topic| {
                        group.topics.contains(topic)
                            || routes
                                .topics
                                .get(topic)
                                .is_some_and(|route| rules.offsets().keys().any(|(id, _)| *id == route.id))
                    })
                })
                .take(most)
                .map(|(group, rules)| {
                    let wanted = filter.lag_above.is_some();
                    (group, if wanted { stands(groups, rules, (&routes, &ids)) } else { Vec::new() })
                })
                .collect()
        })?;
        if let Some(above) = filter.lag_above {
            let all: Vec<Stand> = found.iter().flat_map(|(_, stands)| stands.clone()).collect();
            let mut positions = self.positions(all, Timed::No).await.into_iter();
            for (group, stands) in &mut found {
                group.lag = total(positions.by_ref().take(stands.len()).map(|position| position.lag));
            }
            found.retain(|(group, _)| group.lag.is_some_and(|lag| lag > above));
        }
        let more = found.len() > limit;
        Ok(Answer::Listed { groups: found.into_iter().take(limit).map(|(group, _)| group).collect(), more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_read_as_they_are_documented() {
        let filter: Filter = "state=stable, topic=orders lag>1000".parse().unwrap();
        assert_eq!(
            filter,
            Filter {
                state: Some(GroupState::Stable),
                topic: TopicName::new("orders").ok(),
                lag_above: Some(1000)
            }
        );
        assert_eq!("".parse::<Filter>().unwrap(), Filter::default());
        for bad in ["state=DEAD", "lag>x", "lag=1", "topic=a/b", "stable"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
