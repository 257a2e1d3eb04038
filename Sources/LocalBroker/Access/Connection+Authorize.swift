import Logging
import NIOCore
import Protocol

/// What a connected client may do.
extension Connection {
    enum PublishVerdict {
        case allowed
        case denied
        /// The packet must wait until the authorizer has answered.
        case held
    }

    /// Whether the client may publish the message at hand. Called before anything of it is stored or acknowledged.
    @inline(__always)
    func publishVerdict(_ message: MessageView) -> PublishVerdict {
        guard let access = self.clientAccess else { return .allowed }
        return self.judge(message, access)
    }

    private func judge(_ message: MessageView, _ access: ClientAccess) -> PublishVerdict {
        guard access.judges else { return .allowed }
        switch access.verdict(topic: message.topic, qos: message.qos, retain: message.retain, now: self.shard.now) {
        case .allowed:
            access.releaseHeld()
            return .allowed
        case .denied:
            access.releaseHeld()
            self.onDeniedPublish(message.topic, access)
            return .denied
        case .unknown:
            let kind = TopicQuestion.kind(message.qos, message.retain)
            self.askAndHold([TopicQuestion(kind: kind, topic: Array(message.topic))], access)
            return .held
        }
    }

    /// Counts a denied message, and says so at most once a minute.
    private func onDeniedPublish(_ topic: UnsafeRawBufferPointer, _ access: ClientAccess) {
        self.shard.statistics.publishesDenied += 1
        guard self.shard.now.seconds >= access.nextDenialLog else { return }
        access.nextDenialLog = self.shard.now.seconds + 60
        self.log(.warning, "a client may not publish to '\(String(decoding: topic, as: UTF8.self).logged)'")
    }

    /// Whether a SUBSCRIBE must wait until the authorizer has answered.
    func mustHold(_ subscribe: SubscribeView, _ span: RawSpan, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let access = self.clientAccess, access.authorizer != nil else { return false }
        var filters: [[UInt8]] = []
        var remaining = subscribe.subscriptions
        while let request = remaining.next(in: span) { filters.append([UInt8](bytes[request.filter])) }
        let questions = access.questions(about: filters)
        guard !questions.isEmpty else { return false }
        self.askAndHold(questions, access)
        return true
    }

    /// Whether the client may subscribe to a filter.
    func maySubscribe(to filter: [UInt8]) -> Bool {
        guard let access = self.clientAccess, access.judges else { return true }
        guard !access.allowsSubscription(to: filter) else { return true }
        self.shard.statistics.subscriptionsDenied += 1
        self.log(.info, "a client may not subscribe to '\(String(decoding: filter, as: UTF8.self).logged)'")
        return false
    }

    // MARK: Asking

    /// Stops reading until the authorizer has answered; then the packet at hand is looked at again.
    private func askAndHold(_ questions: [TopicQuestion], _ access: ClientAccess) {
        guard !access.isAsking else { return }
        access.isAsking = true
        self.isStalled = true
        self.setReading(false)
        self.ask(questions, access) { connection, _, _ in
            access.isAsking = false
            connection.onAnswers(access)
        }
    }

    private func onAnswers(_ access: ClientAccess) {
        guard self.isOpen, self.clientAccess === access else { return }
        self.isStalled = false
        if self.shard.now < access.endDeadline { self.resume() }
        // A client that has closed was kept for what it sent before.
        if self.isEnding, !access.isAsking { self.onClosed() }
    }

    /// Asks the authorizer and calls `then` on the loop with the answers, which are also kept with the client's rights. What
    /// is not answered in time is denied, and `isComplete` says that it was not.
    func ask(
        _ questions: [TopicQuestion],
        _ access: ClientAccess,
        then: @escaping (Connection, [TopicQuestion: Bool], _ isComplete: Bool) -> Void
    ) {
        guard let authorizer = access.authorizer else { preconditionFailure("nobody is there to be asked") }
        let control = self.shard.shared.access
        let answers = AnswerBox()
        let bound = NIOLoopBound((connection: self, access: access, then: then), eventLoop: self.shard.eventLoop)
        let (clientID, userName) = (access.clientID, access.userName)
        let time = TimeAmount.seconds(Int64(max(0, control.configuration.decisionCacheSeconds)))
        _ = control.questions.decide(
            for: self.remoteAddress.flatMap { Admission.Origin($0) },
            on: self.shard.eventLoop,
            busy: false,
            late: { false },
            work: {
                for question in questions where !Task.isCancelled {
                    let request = question.request(clientID: clientID, userName: userName)
                    answers[question] = await authorizer.authorize(request) == .allow
                }
                return !Task.isCancelled
            },
            then: { isComplete in
                let (connection, access, then) = bound.value
                connection.shard.beginTick()
                let held = Dictionary(questions.map { ($0, answers[$0]) }) { first, _ in first }
                // What was not answered is denied to the packet at hand only, and asked again for the next.
                access.hold(held, until: isComplete ? connection.shard.now + time : connection.shard.now)
                then(connection, held, isComplete)
            }
        )
    }

    // MARK: Judged anew

    /// The files were read again.
    func rejudge() {
        guard self.isOpen, let access = self.clientAccess else { return }
        let control = self.shard.shared.access
        guard control.isInForce(access.proof, userName: access.userName) else {
            if self.core.phase == .connected {
                self.endForAccess(.notAuthorized, "its credentials are not in force any more")
            } else {
                self.refuse(.notAuthorized, "a client was refused: its credentials are not in force any more")
            }
            return
        }
        let rules = control.rules(clientID: access.clientID, userName: access.userName, grant: access.grant)
        guard rules != access.rules else { return }
        access.update(proof: access.proof, grant: access.grant, expirySeconds: access.expirySeconds, rules: rules)
        self.rejudgeTopics()
    }

    /// Removes the will and the subscriptions that the rules do not allow any more. The subscriptions of a session that is
    /// still on its way are judged when it is there.
    func rejudgeTopics() {
        guard let rules = self.clientAccess?.rules else { return }
        if let will = self.will, !will.topic.withUnsafeBytes({ rules.allowsPublish(to: $0) }) {
            self.will = nil
            self.shard.logger.notice("removed a client's will, which the rules do not allow", metadata: self.metadata)
        }
        guard let session = self.session else { return }
        self.shard.removeSubscriptions(of: session, metadata: self.metadata) { filter in
            !rules.allowsSubscription(to: TopicRules.matchingPart(of: filter))
        }
    }

    /// Judges the subscriptions of a session that the client comes back to, before they go on, and calls `body`, in this call
    /// or later. If the authorizer did not answer all that was asked, none is removed, and `isJudged` is false.
    func judgeSubscriptions(of session: Session, _ body: @escaping (_ isJudged: Bool) -> Void) {
        guard let access = self.clientAccess, access.judges, !session.state.subscriptions.isEmpty else {
            return body(true)
        }
        let questions = access.questions(about: session.state.subscriptions.keys.lazy.map(\.bytes))
        let finish = { (isJudged: Bool) in
            if isJudged {
                self.shard.removeSubscriptions(of: session, metadata: self.metadata) {
                    !access.allowsSubscription(to: $0)
                }
            }
            access.releaseHeld()
            body(isJudged)
        }
        guard !questions.isEmpty else { return finish(true) }
        self.ask(questions, access) { _, _, isComplete in finish(isComplete) }
    }
}

extension Shard {
    /// Removes a session's subscriptions to some filters, and their routes.
    func removeSubscriptions(
        of session: Session,
        metadata: Logger.Metadata,
        where isRemoved: ([UInt8]) -> Bool
    ) {
        let removed = session.state.subscriptions.keys.map(\.bytes).filter(isRemoved)
        guard !removed.isEmpty else { return }
        for filter in removed {
            session.state.subscriptions[FilterKey(filter)] = nil
            session.state.filterBytes -= filter.count
            self.forgetSubscription(filter, of: session)
            if let share = session.state.shares.number(of: filter), !session.state.log.holds(share: share) {
                session.state.shares.release(filter)
            }
            let name = String(decoding: filter, as: UTF8.self).logged
            self.logger.notice("removed a subscription that is not allowed: '\(name)'", metadata: metadata)
        }
        session.state.retained.removeAll { session.state.subscriptions[FilterKey($0.filter)] == nil }
        self.shared.routes.apply(removed.map { .unsubscribe(filter: $0, session.subscriberID) })
    }

    /// Filters judged anew in one go, a client counting for one too: each is held against all rules.
    private static let rejudgedPerTick = 500

    /// The files that say who may do what were read again: every client is judged anew, some at a time.
    func rejudgeClients() {
        self.rejudge(Array(self.connections.keys)[...])
    }

    private func rejudge(_ ids: ArraySlice<UInt64>) {
        self.beginTick()
        var count = 0
        var rest = ids
        while count < Self.rejudgedPerTick, let id = rest.popFirst() {
            guard let connection = self.connections[id] else { continue }
            count += 1 + (connection.session?.state.subscriptions.count ?? 0)
            connection.rejudge()
        }
        guard !rest.isEmpty else { return }
        self.shared.mailboxes[self.index].post(.command { [rest] in $0.rejudge(rest) })
    }
}
