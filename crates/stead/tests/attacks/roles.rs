//! Every operation of the API, as somebody who may not. The API's own description says what there is and who may: an operation
//! that is added is tried here without anybody thinking of it.
//!
//! No operation is carried out: each request carries a header that makes no sense, which is looked at after the role and before
//! the handler. Who may is told that; who may not never gets that far.

use crate::common::{Door, add_user, api_token};
use client::Call;
use serde_json::{Value, json};
use testkit::{Group, Machine};

const ROLES: [&str; 5] = ["nobody", "user", "viewer", "operator", "admin"];
/// What is answered to whoever may.
const NONSENSE: (&str, &str) = ("stead-change", "nonsense");

/// An operation of the description.
struct Operation {
    method: String,
    path: String,
    /// The place of its role in [`ROLES`].
    needs: usize,
}

fn rank(role: &str) -> usize {
    let place = ROLES.iter().position(|one| *one == role);
    place.unwrap_or_else(|| panic!("no role {role:?}"))
}

fn operations(door: &Door) -> Vec<Operation> {
    let document = door.get(None, "/v1/openapi.json").json().expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let each = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(|(method, operation)| Operation {
            method: method.to_uppercase(),
            path: filled(path),
            needs: rank(operation["x-stead-role"].as_str().unwrap_or_default()),
        })
    });
    each.collect()
}

/// The address with something in place of its parameters.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.starts_with('{') {
        true => "admin",
        false => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

fn asks(door: &Door, bearer: Option<&str>, operation: &Operation) -> u16 {
    let (name, value) = NONSENSE;
    let reads = operation.method == "GET" || operation.method == "HEAD";
    let call = Call {
        method: operation.method.parse().expect("a method"),
        path: &operation.path,
        body: (!reads).then(|| json!({})),
        headers: vec![(name.to_owned(), value.to_owned())],
    };
    door.call(bearer, call).status
}

#[test]
fn no_operation_is_for_less_than_its_role() {
    let _machine = Machine::shared();
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    let door = Door::of(&group, 0);
    let mut callers: Vec<(String, usize, Option<String>)> =
        vec![("nobody".to_owned(), rank("nobody"), None)];
    for role in ROLES.into_iter().skip(1) {
        let name = format!("some-{role}");
        add_user(&group, &name, role);
        callers.push((name.clone(), rank(role), Some(door.login(&name))));
        // A token allows what it says, whatever else its user may.
        let token = api_token(&group, "admin", &format!("as-{role}"), role);
        callers.push((format!("admin's token as {role}"), rank(role), Some(token)));
    }
    let operations = operations(&door);
    assert!(operations.len() > 50, "{} operations", operations.len());
    for operation in &operations {
        for (caller, may, bearer) in &callers {
            let expected = match (*may >= operation.needs, *may) {
                (true, _) => 422,
                (false, 0) => 401,
                (false, _) => 403,
            };
            let found = asks(&door, bearer.as_deref(), operation);
            let Operation { method, path, .. } = operation;
            assert_eq!(found, expected, "{method} {path} as {caller}");
        }
    }
    other_ways_to_the_same(&door, &operations);
    what_handlers_look_at_themselves(&group, &door);
}

/// Methods that read like another one, and addresses that look like another one, open nothing.
fn other_ways_to_the_same(door: &Door, operations: &[Operation]) {
    for operation in operations.iter().filter(|one| one.needs > 0) {
        if operation.method == "GET" {
            let head = Operation {
                method: "HEAD".to_owned(),
                path: operation.path.clone(),
                needs: operation.needs,
            };
            assert_eq!(asks(door, None, &head), 401, "HEAD {}", head.path);
        }
        let path = &operation.path;
        for other in [
            format!("/{path}"),
            format!("{path}/"),
            path.replacen("/v1", "/V1", 1),
            path.replacen("/v1/", "/v1/./", 1),
            path.replacen("/v1/", "/healthy/../v1/", 1),
            path.replacen("/v1/", "/v1%2f", 1),
        ] {
            let disguised = Operation {
                method: operation.method.clone(),
                path: other,
                needs: operation.needs,
            };
            let status = asks(door, None, &disguised);
            let same = disguised.path == *path;
            let refused = status == 404 || status == 401 || status == 405;
            assert!(
                same || refused,
                "{} {}: {status}",
                operation.method,
                disguised.path
            );
        }
    }
}

/// One's own password and tokens are for every user, somebody else's for nobody but administrators.
fn what_handlers_look_at_themselves(group: &Group, door: &Door) {
    let password: Value = json!({ "password": "another password" });
    let own = [
        ("PUT", "/v1/users/some-admin/password", password.clone()),
        ("PUT", "/v1/users/some-admin/api-tokens/mine", json!({})),
        ("DELETE", "/v1/users/admin/api-tokens/as-admin", json!({})),
    ];
    let call = |bearer: &str, (method, path, body): &(&str, &str, Value)| {
        let call = Call {
            method: method.parse().expect("a method"),
            path,
            body: Some(body.clone()),
            headers: Vec::new(),
        };
        door.call(Some(bearer), call).status
    };
    for role in ["user", "viewer", "operator"] {
        let bearer = door.login(&format!("some-{role}"));
        for one in &own {
            assert_eq!(call(&bearer, one), 403, "{} {} as {role}", one.0, one.1);
        }
    }
    // A lesser token of an administrator gets itself nothing more.
    let lesser = api_token(group, "some-admin", "lesser", "operator");
    let more = [
        ("PUT", "/v1/users/some-admin/password", password),
        (
            "PUT",
            "/v1/users/some-admin/api-tokens/more",
            json!({ "role": "admin" }),
        ),
        ("PUT", "/v1/users/some-admin/api-tokens/same", json!({})),
        (
            "DELETE",
            "/v1/users/some-admin/api-tokens/lesser",
            json!({}),
        ),
    ];
    for one in &more {
        assert_eq!(
            call(&lesser, one),
            403,
            "{} {} by a lesser token",
            one.0,
            one.1
        );
    }
    assert_eq!(
        door.try_password("some-admin", testkit::PASSWORD).status,
        200
    );
}
