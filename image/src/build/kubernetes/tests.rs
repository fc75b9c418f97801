use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// Programs that say a version, and nothing else.
fn programs(directory: &Path, versions: [&str; 3]) {
    fs::create_dir_all(directory).unwrap();
    let answers = [
        format!("v{}", versions[0]),
        format!("clientVersion:\n  gitVersion: v{}", versions[1]),
        format!("Kubernetes v{}", versions[2]),
    ];
    for (name, answer) in PROGRAMS.iter().zip(answers) {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\ncat <<'E'\n{answer}\nE\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn from_directory(directory: &Path) -> Result<Programs> {
    let source = Source::Directory(directory.to_owned());
    let no_mirror = || bail!("a directory needs no mirror");
    get(&source, no_mirror, directory, Cache::Use)
}

#[test]
fn sources_as_an_operator_writes_them() {
    let source = |text: &str| text.parse::<Source>();
    assert_eq!(source("release:v1.34.2"), Ok(Source::Release("1.34.2".into())));
    assert_eq!(source("release:1.35.0-rc.1"), Ok(Source::Release("1.35.0-rc.1".into())));
    assert_eq!(source("dir:/srv/k8s"), Ok(Source::Directory("/srv/k8s".into())));
    assert_eq!(source("debian-source"), Ok(Source::DebianSource));
    for wrong in [
        "",
        "dir:",
        "release:",
        "release:1.34",
        "release:1.34.x",
        "release:1.34.2/../../x",
        "1.34.2",
        "debian",
    ] {
        assert!(source(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_root_gets_programs_and_units_but_no_enabled_kubelet() {
    let work = tempfile::tempdir().unwrap();
    let (given, root) = (work.path().join("given"), work.path().join("root"));
    programs(&given, ["1.34.2"; 3]);
    let found = from_directory(&given).unwrap();
    assert_eq!(found.version, "1.34.2");

    let error = install(&found, &root).unwrap_err().to_string();
    assert!(error.contains("no container runtime"), "{error}");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("usr/bin/containerd"), "").unwrap();
    install(&found, &root).unwrap();
    for name in PROGRAMS {
        let mode = fs::metadata(root.join("usr/bin").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
    }
    let dropin = root.join("usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf");
    assert!(
        fs::read_to_string(dropin).unwrap().contains("\nExecStart=\nExecStart=/usr/bin/kubelet $KUBELET_")
    );
    assert!(!root.join("etc").exists(), "a unit is enabled by a link in /etc");
}

#[test]
fn programs_of_two_versions_and_missing_ones_are_refused() {
    let work = tempfile::tempdir().unwrap();
    programs(work.path(), ["1.34.2", "1.34.2", "1.34.1"]);
    let error = from_directory(work.path()).unwrap_err().to_string();
    assert!(error.contains("kubelet is of Kubernetes 1.34.1"), "{error}");
    fs::remove_file(work.path().join("kubelet")).unwrap();
    let error = from_directory(work.path()).unwrap_err().to_string();
    assert!(error.ends_with("has no kubelet"), "{error}");
}

/// A server of upstream's files on loopback; gives its URL.
fn site(served: &Path) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/release", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(served));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
    });
    url
}

#[test]
fn upstreams_files_are_taken_only_with_their_digests() {
    let work = tempfile::tempdir().unwrap();
    let bin = work.path().join("release/v1.34.2/bin/linux/amd64");
    programs(&bin, ["1.34.2"; 3]);
    for name in PROGRAMS {
        let sum = crate::build::release::artifact(&bin.join(name)).unwrap().sha256;
        fs::write(bin.join(format!("{name}.sha256")), sum.to_string()).unwrap();
    }
    let site = site(work.path());
    let got = work.path().join("got");
    upstream::fetch(&site, "1.34.2", &PROGRAMS, &got).unwrap();
    assert_eq!(version(&got).unwrap(), "1.34.2");

    let fails = |name: &str| {
        let other = tempfile::tempdir().unwrap();
        let error = format!("{:#}", upstream::fetch(&site, "1.34.2", &[name], other.path()).unwrap_err());
        assert!(!other.path().join(name).exists(), "{name} was kept");
        error
    };
    fs::write(bin.join("kubelet"), "another file").unwrap();
    assert!(fails("kubelet").contains("its SHA-256 is "));
    fs::write(bin.join("kubectl.sha256"), "<html>").unwrap();
    assert!(fails("kubectl").contains("holds no SHA-256"));
    assert!(fails("kube-proxy").contains("the server answered 404"));
}
