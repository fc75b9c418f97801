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
    for (part, given) in [("release:", ""), ("release:v1.34", "1.34"), ("release:1.34", "1.34")] {
        assert_eq!(source(part), Ok(Source::Incomplete(given.into())), "{part}");
    }
    assert_eq!(source("dir:/srv/k8s"), Ok(Source::Directory("/srv/k8s".into())));
    assert_eq!(source("debian-source"), Ok(Source::DebianSource));
    for wrong in [
        "",
        "dir:",
        "release:1",
        "release:1.",
        "release:1.x",
        "release:latest",
        "release:1.34.x",
        "release:1.34.2.1",
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
    for runtime in ["crio", "containerd"] {
        fs::write(root.join("usr/bin").join(runtime), "").unwrap();
        install(&found, &root).unwrap();
        fs::remove_file(root.join("usr/bin").join(runtime)).unwrap();
    }
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

/// A server of a directory on loopback; gives the URL of `release` in it.
pub(in crate::build) fn site(served: &Path) -> String {
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

/// A site with the newest of five minors, and one version of them to take.
fn released(served: &Path) -> String {
    let release = served.join("release");
    let bin = release.join("v1.34.7/bin/linux/amd64");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("kubelet.sha256"), "0".repeat(64)).unwrap();
    fs::write(release.join("stable.txt"), "v1.36.1").unwrap();
    for (minor, patch) in [(36, 1), (35, 4), (34, 7), (33, 11), (32, 15)] {
        fs::write(release.join(format!("stable-1.{minor}.txt")), format!("v1.{minor}.{patch}\n")).unwrap();
    }
    site(served)
}

#[test]
fn a_version_that_upstream_does_not_have_is_answered_with_the_newest() {
    let work = tempfile::tempdir().unwrap();
    let site = released(work.path());
    upstream::check(&site, "1.34.7").unwrap();

    let newest = "; the newest are 1.36.1, 1.35.4, 1.34.7, 1.33.11\ntry: --kubernetes release:";
    let unknown = |version: &str| upstream::check(&site, version).unwrap_err().to_string();
    assert_eq!(unknown("1.34.99"), format!("upstream has no Kubernetes 1.34.99{newest}1.34.7"));
    assert_eq!(unknown("1.3.0"), format!("upstream has no Kubernetes 1.3.0{newest}1.36.1"));
    let incomplete = |given: &str| upstream::incomplete(&site, given).to_string();
    let minor = |given: &str| format!("`release:{given}` names a minor of Kubernetes, not a version{newest}");
    assert_eq!(incomplete("1.35"), minor("1.35") + "1.35.4");
    assert_eq!(incomplete("1.3"), minor("1.3") + "1.36.1");
    assert_eq!(incomplete(""), format!("`release:` names no version of Kubernetes{newest}1.36.1"));
}

/// A project in its first year: there are not always four minors.
#[test]
fn a_site_with_few_minors_lists_those() {
    let work = tempfile::tempdir().unwrap();
    let site = released(work.path());
    fs::write(work.path().join("release/stable.txt"), "v2.0.3\n").unwrap();
    let error = upstream::incomplete(&site, "").to_string();
    assert!(error.ends_with("the newest are 2.0.3\ntry: --kubernetes release:2.0.3"), "{error}");
}

const FORM: &str = "a version has three numbers, such as --kubernetes release:1.34.2";

#[test]
fn a_site_that_says_no_versions_is_named_with_what_it_says() {
    let work = tempfile::tempdir().unwrap();
    let site = released(work.path());
    let fails = |file: &str, text: &str| {
        fs::write(work.path().join("release").join(file), text).unwrap();
        let error = format!("{:#}", upstream::check(&site, "1.34.99").unwrap_err());
        let begin =
            format!("upstream has no Kubernetes 1.34.99, and {site} does not say which there are: {FORM}: ");
        error.strip_prefix(&begin).unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    let url = |file: &str| format!("{site}/{file}");
    let said = fails("stable-1.35.txt", "v1.34.2\n");
    assert_eq!(said, url("stable-1.35.txt says 1.34.2, which is of another minor"));
    fs::remove_file(work.path().join("release/stable-1.35.txt")).unwrap();
    let page = "<html>\nthis is a hotel".to_owned();
    assert_eq!(
        fails("stable.txt", &page),
        url(r#"stable.txt says no version, but "<html>\nthis is a hotel""#)
    );
    assert_eq!(fails("stable.txt", "v1.36"), url(r#"stable.txt says no version, but "v1.36""#));
    assert_eq!(fails("stable.txt", ""), url(r#"stable.txt says no version, but """#));
    let huge = url("stable.txt says no version, but \"v1.99999999999.0\"");
    assert_eq!(fails("stable.txt", "v1.99999999999.0"), huge);
    assert_eq!(fails("stable.txt", &page.repeat(1000)), url("stable.txt is longer than 4096 bytes"));
    let gone = format!("the server answered 404 Not Found for {}", url("stable-1.35.txt"));
    assert_eq!(fails("stable.txt", "v1.36.1"), gone);
}

#[test]
fn a_site_that_is_away_is_said_with_the_form_of_a_version() {
    // Bound and never listened at: the kernel refuses connections, and nobody else gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let site = format!("http://{address}/release");
    for (error, file) in [
        (upstream::check(&site, "1.34.2").unwrap_err(), "v1.34.2/bin/linux/amd64/kubelet.sha256"),
        (upstream::incomplete(&site, ""), "stable.txt"),
    ] {
        let error = format!("{error:#}");
        assert!(error.contains(FORM) && error.contains(&format!("cannot reach {site}/{file}")), "{error}");
        assert!(error.ends_with("Connection refused (os error 111)"), "{error}");
    }
}
