use super::{Left, REMIND, remind};
use crate::drain::plan::PodId;
use crate::drain::report::Report;
use std::io::Write;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn pod() -> PodId {
    PodId { namespace: "default".to_owned(), name: "a".to_owned(), uid: "u".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_is_said_again() {
    let (screen, left) = (Screen::default(), Left::default());
    let report = Report::begin(screen.clone());
    left.put(&pod(), "is ending");
    let until = tokio::time::timeout(REMIND * 2 + REMIND / 2, remind(&report, &left));
    assert!(until.await.is_err(), "it never ends");
    assert_eq!(screen.text().matches("still left: default/a (is ending)\n").count(), 2, "{}", screen.text());
}

#[test]
fn the_clusters_text_moves_no_cursor() {
    let (screen, left) = (Screen::default(), Left::default());
    Report::begin(screen.clone()).line("its hostPath /\u{1b}[2J\nskip stays behind");
    assert_eq!(screen.text(), "its hostPath /?[2J?skip stays behind\n");
    left.put(&pod(), "a webhook says \u{1b}[2J");
    assert_eq!(left.to_string(), "default/a (a webhook says ?[2J)");
}
