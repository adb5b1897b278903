//! People, groups and rules that end while something runs: the session, and the very download, ends within a second.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wicket_client::{Ended, Request, Resolved, Tunnel};

use crate::world::{ORDERS, ORDERS_POLICY, PASSWORD, World, eventually, reason, within_a_second};

/// Begins a download without end.
pub(super) async fn download(world: &World, tunnel: &Tunnel) -> Download {
    let mut http = world.http(tunnel, ORDERS).await;
    let mut body = http.open(Request::get(ORDERS, "/v1/endless")).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    Download { body, _http: http }
}

pub(super) struct Download {
    body: Incoming,
    _http: wicket_client::Http1,
}

impl Download {
    pub(super) async fn frame(&mut self) -> Option<Result<hyper::body::Frame<hyper::body::Bytes>, hyper::Error>> {
        self.body.frame().await
    }
}

/// Reads on until the download breaks off.
pub(super) async fn ends(mut download: Download) {
    while let Some(Ok(_)) = download.frame().await {}
}

#[tokio::test]
async fn a_disabled_user_loses_session_and_download_within_a_second() {
    let world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let (cut, mut goes_on) = (download(&world, &alice).await, download(&world, &bob).await);
    world.users().set_disabled("alice", true).unwrap();
    within_a_second("the end of the download and of the tunnel", async { tokio::join!(ends(cut), alice.closed()) })
        .await;
    assert!(matches!(alice.closed().await, Ended::Disconnected(_)));
    assert!(goes_on.frame().await.unwrap().is_ok());
    assert_eq!(world.try_connect(world.profile("alice")).await.err(), Some(wicket_client::Error::Refused(647)));
    let down = world.record(|record| record["event"] == "tunnel-down").await;
    assert_eq!((&down["user"], &down["reason"]), (&"alice".into(), &"revoked".into()));
    let end = world.record(|record| record["event"] == "end").await;
    assert_ne!(end["result"], "complete", "{end}");
    drop(goes_on);
    world.stop().await;
}

#[tokio::test]
async fn a_disabled_user_is_out_within_a_second_while_policies_are_being_written() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let writes = async {
        for _ in 0..200 {
            world.write_policy("orders.toml", ORDERS_POLICY);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let disabled = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        world.users().set_disabled("alice", true).unwrap();
        within_a_second("the end of the tunnel", alice.closed()).await
    };
    tokio::select! {
        _ = writes => {}
        _ = disabled => {}
    }
    world.stop().await;
}

#[tokio::test]
async fn a_removed_user_loses_session_and_download_within_a_second() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let cut = download(&world, &alice).await;
    world.edit_users(|users| users.retain(|user| user["name"].as_str() != Some("alice")));
    within_a_second("the end of the download and of the tunnel", async { tokio::join!(ends(cut), alice.closed()) })
        .await;
    world.stop().await;
}

#[tokio::test]
async fn a_removed_group_takes_host_download_and_next_request_within_a_second() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let cut = download(&world, &alice).await;
    let mut kept = world.http(&alice, ORDERS).await;
    assert_eq!(kept.send(Request::get(ORDERS, "/v1/items")).await.unwrap().status, 200);
    world.set_groups("alice", &[]);
    within_a_second("the end of the download", ends(cut)).await;
    // The session takes its streams away when it has its turn; until then their requests find nothing.
    let streams = async {
        while let Ok(answer) = kept.send(Request::get(ORDERS, "/v1/items")).await {
            assert_eq!(answer.status, 404);
        }
    };
    within_a_second("the end of its streams", streams).await;
    let name = async { while alice.resolve(ORDERS).await != Ok(Resolved::NxDomain) {} };
    within_a_second("the end of its name", name).await;
    assert_eq!(world.sessions().await.len(), 1, "the session itself lives: Alice is still Alice");
    world.set_groups("alice", &["developers"]);
    let back = async { while !matches!(alice.resolve(ORDERS).await, Ok(Resolved::Addresses(_))) {} };
    within_a_second("the host", back).await;
    assert_eq!(world.get(&alice, "/v1/items").await.status, 200);
    world.stop().await;
}

#[tokio::test]
async fn a_new_bundle_cuts_what_it_no_longer_allows_and_nothing_else_within_a_second() {
    let world = World::start().await;
    let (alice, bob) = (world.connect("alice").await, world.connect("bob").await);
    let (cut, mut goes_on) = (download(&world, &alice).await, download(&world, &bob).await);
    let mut kept = world.http(&alice, ORDERS).await;
    let narrower = ORDERS_POLICY.replace(r#"paths   = ["/v1/**"]"#, r#"paths   = ["/v1/items"]"#)
        + "[[allow]]\nid = \"admins\"\nwho = \"admins\"\nmethods = [\"GET\"]\npaths = [\"/v1/**\"]\n";
    world.write_policy("orders.toml", &narrower);
    within_a_second("the end of the download", ends(cut)).await;
    assert!(goes_on.frame().await.unwrap().is_ok(), "an admin may go on");
    assert_eq!(kept.send(Request::get(ORDERS, "/v1/items")).await.unwrap().status, 200);
    let refused = kept.send(Request::get(ORDERS, "/v1/endless")).await.unwrap();
    assert_eq!((refused.status, &*reason(&refused)), (403, "no-rule-for-subject"));
    let end = world.record(|record| record["event"] == "end" && record["result"] == "revoked").await;
    assert_eq!(end["session"], world.audited("tunnel-up")[0]["session"]);
    drop((goes_on, kept));
    world.stop().await;
}

#[tokio::test]
async fn an_upload_and_a_held_request_are_cut_too() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let mut http = world.http(&alice, ORDERS).await;
    let mut held = Box::pin(http.send(Request::get(ORDERS, "/v1/hold")));
    let mut upload = world.open(&alice, ORDERS, 80).await;
    let head = format!("POST /v1/items HTTP/1.1\r\nHost: {ORDERS}\r\nContent-Length: 1000000\r\n\r\n");
    upload.write_all(head.as_bytes()).await.unwrap();
    let mut uploading = Box::pin(async {
        // Drop by drop, so that it is under way whenever the cut comes.
        while upload.write_all(b"drop").await.is_ok() {
            let mut answer = [0; 512];
            tokio::select! {
                read = upload.read(&mut answer) => return answer[..read.unwrap_or(0)].to_vec(),
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
            }
        }
        Vec::new()
    });
    tokio::select! {
        _ = &mut held => panic!("not held"),
        _ = &mut uploading => panic!("over too early"),
        () = eventually("the requests", async || world.orders.seen().len() == 2) => {}
    }
    world.write_policy("orders.toml", &ORDERS_POLICY.replace("/v1/**", "/v1/other"));
    let both = async { tokio::join!(held, uploading) };
    let (answer, uploaded) = within_a_second("both ends", both).await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 401, "{}", answer.text());
    let uploaded = String::from_utf8(uploaded).unwrap();
    assert!(uploaded.starts_with("HTTP/1.1 401 "), "{uploaded}");
    let ends = || world.audited("end");
    eventually("the records of both ends", async || ends().len() == 2).await;
    assert!(ends().iter().all(|end| end["resp"]["status"] == 401), "{:?}", ends());
    drop((http, upload));
    world.stop().await;
}

#[tokio::test]
async fn a_download_goes_on_over_a_reload_that_changes_nothing_for_it() {
    let world = World::start().await;
    let alice = world.connect("alice").await;
    let mut goes_on = download(&world, &alice).await;
    for round in 0..5 {
        world.reload_after(|| world.write_policy("orders.toml", &format!("# {round}\n{ORDERS_POLICY}"))).await;
        assert!(goes_on.frame().await.unwrap().is_ok());
    }
    world.reload_after(|| _ = world.users().passwd("alice", &format!("{PASSWORD}!")).unwrap()).await;
    assert!(goes_on.frame().await.unwrap().is_ok());
    drop(goes_on);
    world.stop().await;
}
