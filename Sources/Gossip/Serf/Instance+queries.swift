internal import Crypto
internal import NIOCore

/// Serf's queries and user events: passed on as agents do, and the queries about keys answered and put.
extension Instance {
    /// The most that fits into a packet of gossip. Agents may have been set up to send more than they do by default.
    private var serfBytesMax: Int {
        self.settings.packetBytesMax - PacketCodec.crcOverhead - PacketCodec.compoundOverhead
            - PacketCodec.partOverhead - 1
    }

    mutating func onSerfMessage(_ payload: [UInt8]) {
        guard self.phase == .running, let type = payload.first.flatMap(SerfMessageType.init) else { return }
        do throws(WireError) {
            switch type {
            case .query: self.onQuery(try SerfQuery(payload: payload), payload)
            case .queryResponse: self.onQueryResponse(try SerfQueryResponse(payload: payload))
            case .userEvent: try self.onUserEvent(payload)
            // The first two are intents that were not well-formed, the others stand within something else.
            case .leave, .join, .pushPull, .keyRequest, .keyResponse: self.statistics.ignored += 1
            }
        } catch {
            self.statistics.malformed += 1
        }
    }

    /// Brings the clocks up to those of another node, out of an exchange with it.
    mutating func witness(userState: [UInt8]) {
        let clocks = SerfClocks(userState: userState)
        if clocks.members <= SerfClocks.timeMax { self.lamportTime = max(self.lamportTime, clocks.members) }
        self.serf.events.witness(clock: clocks.events)
        self.serf.queries.witness(clock: clocks.queries)
    }

    /// This node's clocks, for an exchange.
    var serfState: [UInt8] {
        SerfClocks(
            members: self.lamportTime,
            events: self.serf.events.clock,
            queries: self.serf.queries.clock
        ).userState
    }

    // MARK: Passing on

    /// Nothing here listens to events, but a ring in which they stop at our nodes would be torn for those who do.
    private mutating func onUserEvent(_ payload: [UInt8]) throws(WireError) {
        // Before the work of looking whether it is new. A copy that comes later is taken in then.
        guard !self.serf.eventsTaken.isSpent(self.now) else {
            self.statistics.ignored += 1
            return
        }
        var reader = MessagePackReader(payload, range: 1..<payload.count)
        let limits = WireLimits.packet
        var time: UInt64 = 0
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            if key == "LTime" { time = try reader.readUnsigned() } else { try reader.skip(depth: limits.nestingDepth) }
        }
        // Of a message that is changed a little on purpose the hash is another one altogether.
        let id = SHA256.hash(data: payload).prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let entry = SeenMessages.Entry(time: time, id: id)
        guard self.serf.events.insert(entry), self.serf.eventsTaken.take(self.now) else { return }
        self.passOn(.event(entry), payload)
    }

    private mutating func passOn(_ subject: BroadcastQueue.Subject, _ payload: [UInt8]) {
        guard payload.count <= self.serfBytesMax else {
            self.statistics.ignored += 1
            return
        }
        self.broadcast(subject, Message.user(payload).encoded())
    }

    // MARK: Answering

    private mutating func onQuery(_ query: SerfQuery, _ payload: [UInt8]) {
        guard !self.serf.queriesTaken.isSpent(self.now) else {
            self.statistics.ignored += 1
            return
        }
        guard self.serf.queries.insert(.init(time: query.time, id: UInt64(query.id))),
            self.serf.queriesTaken.take(self.now)
        else { return }
        if query.isForOthersToo { self.passOn(.query(time: query.time, id: query.id), payload) }
        guard SerfFilter.admit(query.filters, name: self.name, tags: self.tags),
            let asker = NodeAddress(bytes: query.address, port: query.port), self.answersQueries(of: asker)
        else { return }
        if query.wantsAcknowledgement {
            let flags = SerfQuery.acknowledgeFlag
            self.answer(SerfQueryResponse(to: query, from: self.name, flags: flags), to: asker)
        }
        do throws(KeyRefusal) {
            guard let operation = try KeyOperation(query: query) else { return }
            let timeout = Int64(clamping: min(query.timeoutNanoseconds, UInt64(Int64.max / 2)))
            let source = KeyQuery(query: query, asker: asker, deadline: self.now + .nanoseconds(timeout))
            self.directives.append(.serf(.keys(operation, for: source)))
        } catch {
            let refusal = KeyAnswer(refusal: error.description)
            self.answer(SerfQueryResponse(to: query, from: self.name, payload: refusal.encoded()), to: asker)
        }
    }

    /// The address in a query is only claimed. Where anybody can speak only members get answers, so that nobody can
    /// have them sent to somebody else.
    private func answersQueries(of asker: NodeAddress) -> Bool {
        guard self.isAllowed(asker), !asker.isUnspecified, asker.port != 0, asker != self.settings.address else {
            return false
        }
        return self.settings.allowsPublicAddresses || self.peers.values.contains { $0.address == asker }
    }

    private mutating func answer(_ response: SerfQueryResponse, to asker: NodeAddress) {
        guard self.settings.allowsPublicAddresses || self.serf.answers.take(self.now) else {
            self.statistics.unanswered += 1
            return
        }
        self.send([Message.user(response.encoded()).encoded()], to: asker, peer: nil)
    }

    /// The keys were looked at or changed, or why not.
    mutating func onKeys(
        _ operation: KeyOperation,
        _ outcome: Result<KeyRing, KeyRefusal>,
        for source: KeyQuery,
        now: NIODeadline
    ) -> [Directive] {
        self.now = now
        guard self.phase == .running, now <= source.deadline else { return [] }
        var answer: KeyAnswer
        switch outcome {
        case .success(let ring): answer = KeyAnswer(ring, to: operation)
        case .failure(let refusal): answer = KeyAnswer(refusal: refusal.description)
        }
        let total = answer.keys.count
        var response = SerfQueryResponse(to: source.query, from: self.name, payload: answer.encoded())
        // Long keys beside a long name: what does not fit is left out and told, as agents do.
        while response.encoded().count > min(SerfQuery.bytesMax, self.serfBytesMax), !answer.keys.isEmpty {
            answer.keys.removeLast()
            answer.remark = "truncated key list response, showing first \(answer.keys.count) of \(total) keys"
            response.payload = answer.encoded()
        }
        self.answer(response, to: source.asker)
        return self.finish()
    }

    // MARK: Asking

    /// Puts a query about keys to all members; its end is told by the directive `answered`. Not while another runs.
    mutating func ask(_ operation: KeyOperation, now: NIODeadline) -> [Directive] {
        self.now = now
        precondition(self.serf.running == nil, "one query at a time")
        guard self.phase == .running else { return [.serf(.answered([:], silent: []))] }
        var query = RunningQuery(
            operation: operation,
            deadline: now + RunningQuery.timeout,
            nextAttempt: now + RunningQuery.attemptInterval,
            waiting: Set(self.peers.values.filter(\.isActive).map(\.name))
        )
        if !query.waiting.isEmpty {
            let question = self.question(&query, flags: 0)
            self.broadcast(.query(time: question.time, id: question.id), Message.user(question.encoded()).encoded())
        }
        self.serf.running = query
        self.concludeQuery()
        return self.finish()
    }

    private mutating func question(_ running: inout RunningQuery, flags: UInt32) -> SerfQuery {
        var query = SerfQuery()
        query.time = self.serf.queries.clock
        query.id = UInt32.random(in: 0...UInt32(Int32.max), using: &self.generator)
        query.address = self.settings.address.bytes
        query.port = self.settings.address.port
        query.sourceNode = self.name
        query.flags = flags
        query.timeoutNanoseconds = UInt64(max(0, (running.deadline - self.now).nanoseconds))
        query.name = running.operation.queryName
        query.payload = running.operation.payload
        let entry = SeenMessages.Entry(time: query.time, id: UInt64(query.id))
        running.sent.insert(entry)
        // Others pass it on to this node, too.
        _ = self.serf.queries.insert(entry)
        return query
    }

    private mutating func onQueryResponse(_ response: SerfQueryResponse) {
        let entry = SeenMessages.Entry(time: response.time, id: UInt64(response.id))
        guard let running = self.serf.running, running.sent.contains(entry), !response.isAcknowledgement,
            running.answers[response.from] == nil, self.peers[response.from] != nil
        else { return }
        self.serf.running?.answers[response.from] = KeyAnswer(payload: response.payload)
        self.serf.running?.waiting.remove(response.from)
        self.concludeQuery()
    }

    /// Asks those anew that have not answered, each directly, or draws the line.
    mutating func continueQuery() {
        guard var running = self.serf.running, running.nextDeadline <= self.now else { return }
        if running.deadline > self.now {
            running.nextAttempt = self.now + RunningQuery.attemptInterval
            let question = self.question(&running, flags: SerfQuery.noBroadcastFlag)
            let message = Message.user(question.encoded()).encoded()
            for peer in self.peers.values.sorted(by: { $0.name < $1.name })
            where peer.isActive && running.waiting.contains(peer.name) {
                self.send([message], to: peer.address, peer: peer)
            }
            self.serf.running = running
        }
        self.concludeQuery()
    }

    private mutating func concludeQuery() {
        guard let running = self.serf.running, running.waiting.isEmpty || running.deadline <= self.now else { return }
        self.serf.running = nil
        self.directives.append(.serf(.answered(running.answers, silent: running.waiting.sorted())))
    }
}
