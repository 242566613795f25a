//! The cluster itself, without any proxy: if this fails, nothing else means anything.

use integration::cluster::Cluster;
use integration::flavour::Flavour;

#[tokio::test]
async fn x() {
    let t = std::time::Instant::now();
    let c = Cluster::start_with(Flavour::from_env().unwrap(), &[], &|s| eprintln!("{s}")).await.unwrap();
    eprintln!("{:?}", t.elapsed());
    for s in c.servers() {
        eprintln!("{} {}", s.name(), s.own_transactions().await.unwrap());
    }
    drop(c);
    eprintln!("{:?}", t.elapsed());
}
