//! A client in another language knows the addresses and its certificate, and asks the node for the rest.

use dinhba_client::tls::{TlsDialer, named, node_name};
use dinhba_client::transport::Dial;
use dinhba_core::claims::Role;
use dinhba_tests::country::{Country, site};
use tonic::Code;
use tower::{Service, ServiceExt};

use crate::PROGRAM;

const COMMUNE: &str = "02683";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_tells_any_client_how_it_is_and_what_can_be_called() {
    let country = Country::start(PROGRAM, &[site(COMMUNE, 1, None, &[COMMUNE])]).await;
    let node = country.node(COMMUNE, 0);
    let dialer = TlsDialer::new(&country.credentials(Role::Auditor, COMMUNE));
    let mut answers = Vec::new();
    // A frame that asks nothing: of the health of all, and for no service in particular. Python's client speaks `v1alpha`.
    for method in [
        "grpc.health.v1.Health/Check",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "dinhba.v1.Records/NoSuchMethod",
    ] {
        let mut transport = dialer.dial(named(&node_name(node.id), &node.address())).await.unwrap();
        let request = http::Request::post(format!("https://node/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(tonic::body::Body::new("\0\0\0\0\0".to_owned()))
            .unwrap();
        let reply = transport.ready().await.unwrap().call(request).await.unwrap();
        let failure = tonic::Status::from_header_map(reply.headers()).map(|status| status.code());
        answers.push(failure.filter(|code| *code == Code::Unimplemented));
    }
    assert_eq!(answers, [None, None, None, Some(Code::Unimplemented)]);
}
