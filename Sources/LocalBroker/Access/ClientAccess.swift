import NIOCore
import Protocol

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What a connection knows of its client's rights. Where nothing is set up that restricts anybody there is none. Owned by
/// the connection's event loop.
final class ClientAccess {
    /// A topic or filter that is kept must not be longer, in bytes: what is remembered has a bound.
    static let rememberedBytesMax = 256
    static let answersMax = 32

    /// An authorizer's answer for a topic.
    private struct Answer {
        var kind: UInt8
        var topic: [UInt8]
        var isAllowed: Bool
        var until: NIODeadline
    }

    let clientID: String
    let userName: String?
    private(set) var proof: ClientProof
    private(set) var grant: TopicGrant?
    /// When the credentials expire, in seconds of the loop's clock.
    private(set) var expirySeconds: Int
    private(set) var rules: TopicRules?
    let authorizer: (any Authorizer)?
    /// The method of enhanced authentication that CONNECT named.
    let method: String?
    /// An authentication that goes on again while the client is connected.
    var exchange: EnhancedExchange?
    var exchangeTask: Task<Void, Never>?

    /// Whether messages and subscriptions are judged at all.
    private(set) var judges: Bool
    /// The last topic that the client was allowed to publish to, the kind of message, and until when that holds.
    private var lastTopic: [UInt8] = []
    private var lastKind: UInt8 = 0
    private var lastUntil = NIODeadline.uptimeNanoseconds(0)
    /// Earlier answers of the authorizer, and which of them is replaced next.
    private var answers: [Answer] = []
    private var nextAnswer = 0
    /// The answers for the packet that waits for them.
    private var heldAnswers: [TopicQuestion: Bool] = [:]
    /// The authorizer is being asked; the packet waits.
    var isAsking = false
    /// When a client that has closed, and whose last packets wait for answers, is not waited for any more.
    var endDeadline = NIODeadline.distantFuture
    /// The second before which no denied message of the client is logged again.
    var nextDenialLog = 0

    init(
        clientID: String,
        client: AcceptedClient,
        proof: ClientProof,
        expirySeconds: Int,
        rules: TopicRules?,
        authorizer: (any Authorizer)?,
        method: String?
    ) {
        self.clientID = clientID
        self.userName = client.userName
        self.proof = proof
        self.grant = client.grant
        self.expirySeconds = expirySeconds
        self.rules = rules
        self.authorizer = authorizer
        self.method = method
        self.judges = rules != nil || authorizer != nil
    }

    /// The client has authenticated again, or the files were read again.
    func update(proof: ClientProof, grant: TopicGrant?, expirySeconds: Int, rules: TopicRules?) {
        self.proof = proof
        self.grant = grant
        self.expirySeconds = expirySeconds
        self.rules = rules
        self.judges = rules != nil || self.authorizer != nil
        self.lastTopic = []
        self.answers = []
    }

    // MARK: Messages

    enum Verdict {
        case allowed
        case denied
        /// The authorizer must be asked.
        case unknown
    }

    /// Whether the client may publish a message. Allocates nothing for a topic that it published to before.
    func verdict(topic: UnsafeRawBufferPointer, qos: QoS, retain: Bool, now: NIODeadline) -> Verdict {
        let kind = self.authorizer == nil ? 0 : TopicQuestion.kind(qos, retain)
        if self.lastKind == kind, now < self.lastUntil, Self.equals(self.lastTopic, topic) { return .allowed }
        if let rules, !rules.allowsPublish(to: topic) { return .denied }
        guard self.authorizer != nil else {
            self.rememberLast(topic, kind, until: .distantFuture)
            return .allowed
        }
        if let answer = self.heldAnswers[TopicQuestion(kind: kind, topic: Array(topic))] {
            return answer ? .allowed : .denied
        }
        for answer in self.answers where answer.kind == kind && now < answer.until && Self.equals(answer.topic, topic) {
            if answer.isAllowed { self.rememberLast(topic, kind, until: answer.until) }
            return answer.isAllowed ? .allowed : .denied
        }
        return .unknown
    }

    private static func equals(_ text: [UInt8], _ topic: UnsafeRawBufferPointer) -> Bool {
        guard text.count == topic.count, let start = topic.baseAddress else { return false }
        return text.withUnsafeBytes { bytes in
            guard let other = bytes.baseAddress else { return false }
            return memcmp(other, start, topic.count) == 0
        }
    }

    private func rememberLast(_ topic: UnsafeRawBufferPointer, _ kind: UInt8, until: NIODeadline) {
        guard topic.count <= Self.rememberedBytesMax else { return }
        self.lastTopic.removeAll(keepingCapacity: true)
        self.lastTopic.append(contentsOf: topic)
        self.lastKind = kind
        self.lastUntil = until
    }

    // MARK: Subscriptions

    /// Whether the client may subscribe to a filter; one that the authorizer was not asked about is denied.
    func allowsSubscription(to filter: [UInt8]) -> Bool {
        let part = TopicRules.matchingPart(of: filter)
        if let rules, !rules.allowsSubscription(to: part) { return false }
        guard self.authorizer != nil else { return true }
        return self.heldAnswers[TopicQuestion(kind: TopicQuestion.subscribe, topic: Array(part))] ?? false
    }

    /// What the authorizer must be asked about filters: those that the rules allow and that it was not asked about just now.
    func questions(about filters: some Sequence<[UInt8]>) -> [TopicQuestion] {
        guard self.authorizer != nil else { return [] }
        var questions: [TopicQuestion] = []
        for filter in filters {
            let part = TopicRules.matchingPart(of: filter)
            if let rules, !rules.allowsSubscription(to: part) { continue }
            let question = TopicQuestion(kind: TopicQuestion.subscribe, topic: Array(part))
            if self.heldAnswers[question] == nil { questions.append(question) }
        }
        return questions
    }

    // MARK: Answers

    /// The authorizer has answered for the packet that waits.
    func hold(_ answers: [TopicQuestion: Bool], until: NIODeadline) {
        self.heldAnswers.merge(answers) { $1 }
        for (question, isAllowed) in answers
        where question.kind != TopicQuestion.subscribe && question.topic.count <= Self.rememberedBytesMax {
            let answer = Answer(kind: question.kind, topic: question.topic, isAllowed: isAllowed, until: until)
            if self.answers.count < Self.answersMax {
                self.answers.append(answer)
            } else {
                self.answers[self.nextAnswer] = answer
                self.nextAnswer = (self.nextAnswer + 1) % Self.answersMax
            }
        }
    }

    /// The packet that waited has been handled.
    @inline(__always)
    func releaseHeld() {
        if !self.heldAnswers.isEmpty { self.heldAnswers = [:] }
    }
}

@available(*, unavailable)
extension ClientAccess: Sendable {}

/// What an authorizer is asked, as a key.
struct TopicQuestion: Hashable, Sendable {
    static let subscribe: UInt8 = 0x80

    var kind: UInt8
    var topic: [UInt8]

    static func kind(_ qos: QoS, _ retain: Bool) -> UInt8 { qos.rawValue | (retain ? 4 : 0) }

    func request(clientID: String, userName: String?) -> AuthorizationRequest {
        let isSubscribe = self.kind == Self.subscribe
        return AuthorizationRequest(
            action: isSubscribe
                ? .subscribe : .publish(qos: QoS(rawValue: self.kind & 3) ?? .atMostOnce, retain: self.kind & 4 != 0),
            topic: String(decoding: self.topic, as: UTF8.self),
            clientID: clientID,
            userName: userName
        )
    }
}
