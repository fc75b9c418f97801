use super::{Answer, answer, eviction};
use crate::drain::plan::PodId;
use kube::core::Status;
use serde_json::{Value, json};
use std::time::Duration;

/// As the API server answers it (Kubernetes 1.20.2).
fn refused(code: u16, message: &str, causes: &Value, after: u32) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code,
        "details": {"causes": causes, "retryAfterSeconds": after},
    });
    let status: Status = serde_json::from_value(status).unwrap();
    answer(Err(kube::Error::Api(status.boxed())))
}

#[test]
fn a_refusal_for_now_names_the_budget() {
    let budget = "The disruption budget web needs 2 healthy pods and has 2 currently";
    let causes = json!([{"reason": "DisruptionBudget", "message": budget}]);
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    assert_eq!(refused(429, message, &causes, 0), Answer::HeldUp(budget.to_owned(), Duration::ZERO));
    let later = refused(429, message, &causes, 10);
    assert_eq!(later, Answer::HeldUp(budget.to_owned(), Duration::from_secs(10)));
    let unnamed = refused(429, message, &json!([]), 0);
    assert_eq!(unnamed, Answer::HeldUp(message.to_owned(), Duration::ZERO));
}

#[test]
fn what_the_server_cannot_do_now_is_tried_again() {
    let two =
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
    assert_eq!(refused(500, two, &json!([]), 0), Answer::HeldUp(two.to_owned(), Duration::ZERO));
    let ending = json!([{"reason": "NamespaceTerminating", "message": "namespace old is being terminated"}]);
    let message = "pods \"a\" is forbidden: unable to create new content in namespace old because it is being terminated";
    assert_eq!(refused(403, message, &ending, 0), Answer::HeldUp(message.to_owned(), Duration::ZERO));
}

#[test]
fn no_answer_says_that_a_pod_is_gone() {
    for (code, message) in [
        (404, "poddisruptionbudgets.policy \"web\" not found"),
        (404, "<html>no such page</html>"),
        (409, "Operation cannot be fulfilled on poddisruptionbudgets.policy \"web\""),
        (409, "Precondition failed: UID in precondition: 1, UID in object meta: 2"),
    ] {
        let answer = refused(code, message, &json!([]), 0);
        assert_eq!(answer, Answer::HeldUp(message.to_owned(), Duration::ZERO));
    }
}

#[test]
fn a_user_who_may_not_evict_is_told_so() {
    let message = "pods \"a\" is forbidden: User \"joe\" cannot create resource \"pods/eviction\"";
    assert_eq!(refused(403, message, &json!([]), 0), Answer::Refused(message.to_owned()));
}

#[test]
fn an_eviction_is_of_one_pod_only() {
    let pod = PodId { namespace: "a".to_owned(), name: "b".to_owned(), uid: "c".to_owned() };
    let asked = eviction("policy/v1beta1", &pod, None);
    assert_eq!(asked["apiVersion"], "policy/v1beta1");
    assert_eq!(asked["metadata"], json!({"namespace": "a", "name": "b"}));
    assert_eq!(asked["deleteOptions"], json!({"preconditions": {"uid": "c"}}));
    assert_eq!(eviction("policy/v1", &pod, Some(1))["deleteOptions"]["gracePeriodSeconds"], 1);
}
