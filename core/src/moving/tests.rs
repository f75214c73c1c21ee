use super::*;

#[test]
fn server_that_has_ended_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let paths = PoolPaths::new(dir.path().join("pool"));
    files::create_private_dir(paths.root()).unwrap();
    let codex_home = dir.path().join("codex");
    let home = Home::new(&paths, &codex_home, Duration::ZERO).unwrap().expect("free");
    let origin = Origin::of(std::process::id()).unwrap();
    let server = BackgroundServer { home: codex_home.clone(), pid: 0, start_ticks: 0 };
    let mut threads = Threads::none(&home.home, &codex_home);
    // Whether this one is to be told is not known: its log cannot be read.
    threads.include(vec![ThreadMeta {
        id: "0199e9a0-0000-7000-8000-000000000001".to_owned(),
        cwd: PathBuf::new(),
        creator_user_id: None,
        creator_account_id: None,
        subagent: false,
        forked_from: None,
        interactive: true,
        model_provider: None,
        path: codex_home.join("no-log.jsonl"),
    }]);
    for again in [false, true] {
        let begin = Instant::now();
        let result = home.go_on(&origin, Path::new("codex"), &server, &mut threads, again);
        assert_eq!((result.is_ok(), begin.elapsed() < TAKEN_BACK), (again, true));
    }
}
