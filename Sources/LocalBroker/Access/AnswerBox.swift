import Synchronization

/// The answers that an authorizer has given so far; what it has not answered is denied.
final class AnswerBox: Sendable {
    private let answers = Mutex<[TopicQuestion: Bool]>([:])

    subscript(question: TopicQuestion) -> Bool {
        get { self.answers.withLock { $0[question] ?? false } }
        set { self.answers.withLock { $0[question] = newValue } }
    }
}
