//! More clients than a system lets a program serve that does not ask for more.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Disturbance, TestHub};

const FILES: usize = 128;
const CONNECTIONS: usize = 2 * FILES;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_was_started_with_few_files_serves_many_connections() {
    let mut hub = TestHub::builder().temporal_off().start().await;
    hub.start_api_with_few_files(FILES).await;
    let last = hub.request_to(1, reqwest::Method::GET, "/livez").build().unwrap();
    let address = last.url().authority().to_owned();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = TcpStream::connect(&address).await.unwrap();
        connection.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 64];
        let length = connection.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "after {} connections", open.len());
        open.push(connection);
    }
    hub.finish(Disturbance::None).await;
}
