//! Where sessions go: a table of rules, fair spreading, and a dumb twin of eligibility.

use crate::fixture::{
    ALL, AT, BOSTON, DETROIT, NEWYORK, SEATTLE, app, ms, objections, offline, secs, server,
};
use model::settings::{BalanceMethod, SubnetAffinity};
use model::{Application, Mode, Server, ServerId, Standing, UserName};
use policy::placement::{Choices, Host, Load, Placement, Request, choose, place};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Four servers, the last a witness, all idle and well.
fn servers() -> Vec<Server> {
    let standing = |id| {
        if id == SEATTLE {
            Standing::Witness
        } else {
            Standing::Voter
        }
    };
    ALL.map(|id| server(id, standing(id))).to_vec()
}

fn host(server: &Server) -> Host<'_> {
    Host {
        server,
        reachable: true,
        load: Some(Load {
            cpu_permille: 100,
            memory_permille: 300,
            sessions: 0,
        }),
        report_age: ms(400),
        chosen_since: 0,
        app_sessions: 0,
        failed_ago: None,
        start_retry: secs(300),
    }
}

fn request(app: &Application) -> Request<'_> {
    Request {
        app,
        user: None,
        user_sessions: 0,
        asked: None,
        online_only: false,
        client: None,
        affinity: SubnetAffinity::None,
        method: BalanceMethod::LeastLoad,
        feature_level: 1,
        last: None,
        draw: 0,
    }
}

fn asked<'a>(request: &Request<'a>, hosts: &[Host<'_>]) -> Placement {
    let placement = place(request, hosts, AT);
    assert_eq!(choose(request, hosts), placement.chosen);
    placement
}

#[test]
fn the_explanation_says_why_for_everybody() {
    let mut app = app("desktop");
    app.hosts = BTreeMap::from([("gpu".to_owned(), "yes".to_owned())]);
    app.max_per_server = Some(2);
    let mut servers = servers();
    for server in &mut servers {
        server.labels = app.hosts.clone();
    }
    servers[1].labels.clear();
    servers[2].mode = offline("ann", Some("new fans"));
    let hosts: Vec<_> = servers.iter().map(host).collect();
    let user = UserName::new("ben").unwrap();
    let mut request = request(&app);
    request.user = Some(&user);
    let placement = asked(&request, &hosts);
    assert_eq!(placement.chosen, Some(BOSTON));
    let mut told = placement.explanation.to_string();
    let full = Host {
        app_sessions: 2,
        reachable: false,
        ..hosts[0]
    };
    told.push_str("\n\n");
    told.push_str(
        &asked(&request, &[full, hosts[1], hosts[2], hosts[3]])
            .explanation
            .to_string(),
    );
    let failed = Host {
        failed_ago: Some(secs(20)),
        ..hosts[2]
    };
    told.push_str("\n\n");
    told.push_str(
        &asked(&request, &[full, hosts[1], failed, hosts[3]])
            .explanation
            .decision,
    );
    told.push_str("\n\n");
    told.push_str(
        &asked(&request, &[full, hosts[1], hosts[3]])
            .explanation
            .decision,
    );
    insta::assert_snapshot!(told);
}

/// The rules that speak against the only host there is.
fn against(request: &Request<'_>, host: Host<'_>) -> Vec<String> {
    let placement = asked(request, &[host]);
    let rules = objections(&placement.explanation, host.server.id);
    assert_eq!(
        placement.chosen.is_some(),
        rules.is_empty(),
        "{}",
        placement.explanation
    );
    rules.into_iter().map(str::to_owned).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn one_rule_at_a_time_for_servers() {
    let app = app("shell");
    let servers = servers();
    let old = Server {
        feature_level: 0,
        ..servers[0].clone()
    };
    let well = host(&servers[0]);
    let request = request(&app);
    assert_eq!(against(&request, well), NOTHING);
    assert_eq!(against(&request, host(&servers[3])), ["hosts-sessions"]);
    assert_eq!(
        against(
            &request,
            Host {
                reachable: false,
                ..well
            }
        ),
        ["reachable"]
    );
    assert_eq!(against(&request, host(&old)), ["feature-level"]);
    for load in [well.load, None] {
        let host = |report_age| Host {
            load,
            report_age,
            ..well
        };
        assert_eq!(against(&request, host(ms(2_999))), NOTHING);
        assert_eq!(against(&request, host(ms(3_000))), ["reports"]);
    }
    let nobody = asked(&request, &[]).explanation.decision;
    assert_eq!(nobody, "no server can host shell: there is no server");
}

#[test]
fn one_rule_at_a_time_for_requests() {
    let limited = Application {
        max_per_server: Some(3),
        max_per_user: Some(1),
        ..app("shell")
    };
    let labels = BTreeMap::from([("site".to_owned(), "east".to_owned())]);
    let picky = Application {
        hosts: labels,
        ..app("shell")
    };
    let servers = servers();
    let well = host(&servers[0]);
    let user = UserName::new("ann").unwrap();
    let by_ann = |user_sessions| Request {
        user: Some(&user),
        user_sessions,
        ..request(&limited)
    };
    assert_eq!(against(&request(&picky), well), ["labels"]);
    assert_eq!(
        against(
            &by_ann(0),
            Host {
                app_sessions: 2,
                ..well
            }
        ),
        NOTHING
    );
    assert_eq!(
        against(
            &by_ann(0),
            Host {
                app_sessions: 3,
                ..well
            }
        ),
        ["max-per-server"]
    );
    assert_eq!(against(&by_ann(1), well), ["max-per-user"]);
    let by_name = |asked| Request {
        asked: Some(asked),
        ..request(&limited)
    };
    assert_eq!(against(&by_name(NEWYORK), well), ["asked-for"]);
    assert_eq!(against(&by_name(BOSTON), well), NOTHING);
}

#[test]
fn an_offline_server_and_one_that_failed_are_last_resorts() {
    let app = app("shell");
    let mut servers = servers();
    servers[1].mode = offline("ann", None);
    let [boston, newyork] = [host(&servers[0]), host(&servers[1])];
    let failed = Host {
        failed_ago: Some(secs(299)),
        ..boston
    };
    let recovered = Host {
        failed_ago: Some(secs(300)),
        ..boston
    };
    let request = request(&app);
    assert_eq!(asked(&request, &[boston, newyork]).chosen, Some(BOSTON));
    assert_eq!(asked(&request, &[failed, newyork]).chosen, Some(NEWYORK));
    assert_eq!(asked(&request, &[recovered, newyork]).chosen, Some(BOSTON));
    assert_eq!(asked(&request, &[newyork]).chosen, Some(NEWYORK));
    // Better a start that may fail again, with what the command prints, than none.
    assert_eq!(asked(&request, &[failed]).chosen, Some(BOSTON));
    let by_name = Request {
        asked: Some(NEWYORK),
        ..request
    };
    assert_eq!(asked(&by_name, &[boston, newyork]).chosen, Some(NEWYORK));
    let cut_off = Host {
        reachable: false,
        ..newyork
    };
    assert_eq!(asked(&by_name, &[boston, cut_off]).chosen, None);
}

/// Places a burst between two reports, with a simple generator for the draws.
fn burst(hosts: &[Host<'_>], method: BalanceMethod, count: u32) -> BTreeMap<ServerId, u32> {
    let app = app("shell");
    let mut hosts = hosts.to_vec();
    let mut choices = Choices::default();
    let (mut draw, mut last) = (0x9e37_79b9_7f4a_7c15_u64, None);
    for _ in 0..count {
        draw = draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let request = Request {
            method,
            last,
            draw: draw >> 17,
            ..request(&app)
        };
        let chosen = asked(&request, &hosts).chosen.unwrap();
        choices.chose(chosen);
        last = Some(chosen);
        for host in &mut hosts {
            host.chosen_since = choices.count(host.server.id);
        }
    }
    hosts
        .iter()
        .map(|host| (host.server.id, choices.count(host.server.id)))
        .collect()
}

#[test]
fn a_burst_between_reports_spreads_whatever_the_method() {
    let servers = servers();
    let hosts: Vec<_> = servers[..3].iter().map(host).collect();
    for method in [
        BalanceMethod::LeastLoad,
        BalanceMethod::LeastSessions,
        BalanceMethod::RoundRobin,
        BalanceMethod::RandomTwo,
    ] {
        let spread = burst(&hosts, method, 300);
        assert!(
            spread.values().all(|count| (85..=115).contains(count)),
            "{method:?}: {spread:?}"
        );
    }
}

#[test]
fn least_load_follows_power_and_load() {
    let mut servers = servers();
    servers[0].power = 3_000;
    let hosts: Vec<_> = servers[..2].iter().map(host).collect();
    let spread = burst(&hosts, BalanceMethod::LeastLoad, 400);
    assert!(
        (280..=320).contains(&spread[&BOSTON]),
        "three times the power, three times the sessions: {spread:?}"
    );
    let busy = Host {
        load: Some(Load {
            cpu_permille: 900,
            memory_permille: 700,
            sessions: 2,
        }),
        ..hosts[0]
    };
    let spread = burst(&[busy, hosts[1]], BalanceMethod::LeastLoad, 40);
    assert_eq!(spread[&NEWYORK], 40, "{spread:?}");
    assert_eq!(busy.load_figure(), 806);
}

/// Places tokens one after the other; every hundred, the servers report what they have.
fn placed(hosts: &mut [Host<'_>], count: u32) -> BTreeMap<ServerId, u32> {
    let mut placed = BTreeMap::new();
    let mut draw = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..count {
        draw = draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let app = app("shell");
        let request = Request {
            draw: draw >> 17,
            ..request(&app)
        };
        let chosen = asked(&request, hosts).chosen.unwrap();
        *placed.entry(chosen).or_insert(0) += 1;
        for host in hosts.iter_mut() {
            host.chosen_since += u32::from(host.server.id == chosen);
            if number % 100 == 99 {
                let load = host.load.as_mut().unwrap();
                load.sessions += std::mem::take(&mut host.chosen_since);
            }
        }
    }
    placed
}

fn is_near(count: u32, share: u32) -> bool {
    count.abs_diff(share) * 10 <= share
}

#[test]
fn a_thousand_tokens_land_by_power_and_the_survivors_share_those_of_a_lost_server() {
    let mut servers = servers();
    for (server, power) in servers.iter_mut().zip([1_000, 2_000, 4_000]) {
        server.power = power;
    }
    let mut hosts: Vec<_> = servers[..3].iter().map(host).collect();
    let first = placed(&mut hosts, 1_000);
    for (server, share) in servers.iter().zip([143, 286, 571]) {
        assert!(is_near(first[&server.id], share), "{first:?}");
    }
    let lost = first[&servers[2].id];
    hosts[2].reachable = false;
    let then = placed(&mut hosts, lost);
    for (server, share) in servers.iter().zip([333, 667]) {
        let all = first[&server.id] + then[&server.id];
        assert!(is_near(all, share), "{first:?} {then:?}");
    }
}

#[test]
fn clients_go_to_servers_near_them_as_far_as_the_setting_says() {
    let mut servers = servers();
    servers[0].client_address = "10.1.1.1:5443".to_owned();
    servers[1].client_address = "10.2.2.1:5443".to_owned();
    servers[2].client_address = "10.3.3.1:5443".to_owned();
    servers[2].external.push(model::ExternalAddress {
        network: "192.168.0.0/16".parse().unwrap(),
        address: "gate:5443".to_owned(),
    });
    let hosts: Vec<_> = servers[..3].iter().map(host).collect();
    let app = app("shell");
    let from = |client: &str, affinity| Request {
        client: Some(client.parse().unwrap()),
        affinity,
        ..request(&app)
    };
    for draw in 0..50 {
        for affinity in [SubnetAffinity::Prefer, SubnetAffinity::Require] {
            for (client, near) in [("::ffff:10.2.2.77", 1), ("192.168.7.7", 2)] {
                let request = Request {
                    draw,
                    ..from(client, affinity)
                };
                assert_eq!(asked(&request, &hosts).chosen, Some(servers[near].id));
            }
        }
    }
    let far = asked(&from("172.16.0.1", SubnetAffinity::Prefer), &hosts);
    assert!(far.chosen.is_some());
    let said = &far.explanation.decision;
    assert!(said.contains("no server is near it"), "{said}");
    let nowhere = asked(&from("172.16.0.1", SubnetAffinity::Require), &hosts);
    assert_eq!(nowhere.chosen, None);
    let said = &nowhere.explanation.decision;
    assert!(said.contains("172.16.0.1 is in another network"), "{said}");
    assert!(
        asked(&from("172.16.0.1", SubnetAffinity::None), &hosts)
            .chosen
            .is_some()
    );
    // The one that is near has failed: another network is better than that.
    let failed = Host {
        failed_ago: Some(secs(1)),
        ..hosts[1]
    };
    let elsewhere = asked(
        &from("10.2.2.77", SubnetAffinity::Prefer),
        &[hosts[0], failed],
    );
    assert_eq!(elsewhere.chosen, Some(servers[0].id));
}

#[test]
fn round_robin_goes_on_when_servers_come_and_go() {
    let app = app("shell");
    let servers = servers();
    let hosts: Vec<_> = servers[..3].iter().map(host).collect();
    let next = |hosts: &[Host<'_>], last| {
        let request = Request {
            method: BalanceMethod::RoundRobin,
            last,
            ..request(&app)
        };
        asked(&request, hosts).chosen
    };
    assert_eq!(next(&hosts, None), Some(NEWYORK));
    assert_eq!(next(&hosts, Some(NEWYORK)), Some(BOSTON));
    assert_eq!(next(&hosts, Some(BOSTON)), Some(DETROIT));
    assert_eq!(next(&hosts, Some(DETROIT)), Some(NEWYORK));
    assert_eq!(next(&hosts[..2], Some(DETROIT)), Some(NEWYORK));
    assert_eq!(next(&hosts[1..], Some(NEWYORK)), Some(DETROIT));
}

#[test]
fn choices_count_until_the_report_after_next() {
    let mut choices = Choices::default();
    choices.chose(BOSTON);
    choices.reported(BOSTON, ms(1_000));
    choices.chose(BOSTON);
    assert_eq!(choices.count(BOSTON), 2);
    choices.reported(BOSTON, ms(1_010));
    assert_eq!(
        choices.count(BOSTON),
        2,
        "two reports in a row count as one"
    );
    choices.reported(BOSTON, ms(2_000));
    assert_eq!(choices.count(BOSTON), 1);
    choices.reported(BOSTON, ms(3_000));
    assert_eq!(choices.count(BOSTON), 0);
    choices.chose(NEWYORK);
    choices.keep(|id| id == BOSTON);
    assert_eq!(choices.count(NEWYORK), 0);
}

#[derive(Debug, Clone)]
struct Drawn {
    online: bool,
    reachable: bool,
    age: u64,
    reported: bool,
    cpu: u32,
    sessions: u32,
    chosen: u32,
    app_sessions: u32,
    failed: Option<u64>,
    power: u32,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.8),
        0..4_000u64,
        prop::bool::weighted(0.9),
    );
    let figures = (
        0..2_000u32,
        any::<u32>(),
        any::<u32>(),
        0..4u32,
        prop::option::of(0..600u64),
        any::<u32>(),
    );
    (flags, figures).prop_map(
        |(
            (online, reachable, age, reported),
            (cpu, sessions, chosen, app_sessions, failed, power),
        )| Drawn {
            online,
            reachable,
            age,
            reported,
            cpu,
            sessions,
            chosen,
            app_sessions,
            failed,
            power,
        },
    )
}

proptest! {
    /// Whatever the figures (absurd ones included): it never fails, only the fit are chosen, and only the best kind of fit.
    #[test]
    fn only_the_fit_are_chosen(
        all in prop::collection::vec(drawn(), 4),
        witness in 0..5usize,
        draw in any::<u64>(),
        last in prop::option::of(0..4usize),
        method in prop::sample::select(vec![
            BalanceMethod::LeastLoad, BalanceMethod::LeastSessions, BalanceMethod::RoundRobin, BalanceMethod::RandomTwo,
        ]),
        asked_for in prop::option::weighted(0.2, 0..4usize),
    ) {
        let app = Application { max_per_server: Some(3), ..app("shell") };
        let mut servers: Vec<_> = ALL.iter().enumerate().map(|(place, id)| {
            server(*id, if place == witness { Standing::Witness } else { Standing::NonVoter })
        }).collect();
        for (server, drawn) in servers.iter_mut().zip(&all) {
            server.power = drawn.power;
            if !drawn.online {
                server.mode = offline("ann", None);
            }
        }
        let hosts: Vec<_> = servers.iter().zip(&all).map(|(server, drawn)| Host {
            reachable: drawn.reachable,
            load: drawn.reported.then_some(Load {
                cpu_permille: drawn.cpu, memory_permille: drawn.cpu, sessions: drawn.sessions,
            }),
            report_age: ms(drawn.age),
            chosen_since: drawn.chosen,
            app_sessions: drawn.app_sessions,
            failed_ago: drawn.failed.map(secs),
            ..host(server)
        }).collect();
        let by_name = asked_for.map(|place| ALL[place]);
        let request = Request { method, draw, last: last.map(|place| ALL[place]), asked: by_name, ..request(&app) };
        let placement = place(&request, &hosts, AT);
        prop_assert_eq!(choose(&request, &hosts), placement.chosen);
        let possible = |host: &&Host<'_>| {
            let named = by_name == Some(host.server.id);
            host.server.standing.hosts() && host.reachable && host.app_sessions < 3
                && (named || (by_name.is_none() && host.report_age < secs(3)))
        };
        let kind = |host: &Host<'_>| {
            let failed = host.failed_ago.is_some_and(|ago| ago < secs(300));
            match (by_name.is_some(), failed, host.server.mode == Mode::Online) {
                (true, _, _) | (false, false, true) => 0,
                (false, false, false) => 1,
                (false, true, _) => 2,
            }
        };
        let best = hosts.iter().filter(possible).map(kind).min();
        let fit: Vec<_> = hosts.iter().filter(possible).filter(|host| Some(kind(host)) == best).map(|host| host.server.id).collect();
        prop_assert_eq!(placement.chosen.is_some(), !fit.is_empty());
        prop_assert!(placement.chosen.is_none_or(|chosen| fit.contains(&chosen)), "{}", placement.explanation);
        for candidate in &placement.explanation.candidates {
            prop_assert_eq!(candidate.eligible, fit.contains(&candidate.server), "{}", placement.explanation);
            prop_assert!(candidate.eligible || candidate.objections().next().is_some());
        }
    }
}
