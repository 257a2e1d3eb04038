import NIOCore

@testable import Gossip

/// What lies between the nodes: datagrams, streams and the looking up of names.
extension Simulation {
    /// Datagrams that the socket of a process holds that does not read it.
    private static let socketDatagramsMax = 256

    func carryOut(_ directive: Directive, _ node: Node) {
        switch directive {
        case .send(let bytes, let target):
            self.packets += 1
            self.packetBytes += bytes.count
            for _ in 0..<self.weather.copies(using: &self.generator) {
                let arrival = self.now + self.weather.delay(using: &self.generator)
                self.agenda.add(arrival, .packet(bytes, from: node.address, to: target))
            }
        case .open(let id, let target, let bytes, let timeout): self.open(id, node, target, bytes, timeout)
        case .resolve(let index):
            // The name service knows the node that was started last under a name.
            let found = self.nodes.last { $0.name == node.seeds[index] }
            let outcome = found.map { Result<[NodeAddress], StreamFailure>.success([$0.address]) }
            self.agenda.add(
                self.now + self.weather.delay(using: &self.generator),
                .resolved(node, seed: index, outcome ?? .failure(.unreachable("no such name")))
            )
        case .event(let event):
            if self.keepsEvents { node.events.append((self.now, event)) }
            self.onEvent?(node, event)
            self.tell(node, event.line)
        case .notice(.selfAccused(let accuser, let incarnation)):
            self.tell(node, "refutes \(accuser), who spoke of \(incarnation)")
        case .serf(let directive): node.serf.append(directive)
        case .notice: break
        case .leaveFinished: node.hasFinishedLeave = true
        }
    }

    func handle(_ input: Agenda.Input) {
        switch input {
        case .action(let action): action()
        case .timer(let node): self.onTimer(node)
        case .resume(let node): self.resume(node)
        case .packet(let bytes, let source, let target): self.receive(bytes, source, target, input)
        case .connected(let stream, let acceptor): self.connected(stream, acceptor, input)
        case .stream(let stream, let acceptor): self.receive(stream, acceptor, input)
        case .outcome(let node, let id, let outcome):
            guard node.isUp, node.openStreams.contains(id) else { return }
            if node.isPaused { return node.backlog.append(input) }
            node.openStreams.remove(id)
            self.note(id.number)
            self.drive(node) { $0.onStream(id, outcome, now: $1) }
        case .resolved(let node, let index, let outcome):
            guard node.isUp else { return }
            if node.isPaused { return node.backlog.append(input) }
            self.drive(node) { $0.onResolved(seed: index, outcome, now: $1) }
        }
    }

    private func receive(_ bytes: [UInt8], _ source: NodeAddress, _ target: NodeAddress, _ input: Agenda.Input) {
        guard let node = self.hosts[target], node.isUp else { return }
        guard !self.cut(source, target), !self.datagramCut(source, target) else { return }
        if node.isPaused {
            guard node.backlogDatagrams < Self.socketDatagramsMax else { return }
            node.backlogDatagrams += 1
            node.backlog.append(input)
            return
        }
        self.note(UInt64(bytes.count))
        self.drive(node) { $0.onPacket(bytes, from: source, now: $1) }
    }

    // MARK: Streams

    /// What TCP waits for before it sends again what was lost: to open a connection, and within one.
    private static let openingWait = TimeAmount.seconds(1)
    private static let segmentWait = TimeAmount.milliseconds(200)

    private func open(
        _ id: StreamID,
        _ node: Node,
        _ target: NodeAddress,
        _ bytes: [UInt8],
        _ timeout: TimeAmount
    ) {
        node.openStreams.insert(id)
        let end = self.now + timeout
        let silence = Result<Message, StreamFailure>.failure(.unreachable("no answer in time"))
        self.agenda.add(end, .outcome(node, id, silence))
        var decoder = StreamDecoder()
        // What we write is well-formed; anything else would show as a stream without an answer.
        guard let message = try? decoder.receive(bytes) else { return }
        let stream = SimulatedStream(id: id, opener: node, target: target, message: message, end: end)
        self.carry(from: node, to: target, again: Self.openingWait, until: end) { self.knocked(stream) }
    }

    /// An opening came to a host, which takes it if the process is there, whether or not it is held up.
    private func knocked(_ stream: SimulatedStream) {
        guard let node = self.hosts[stream.target] else { return }
        let isTaken = node.isUp
        self.carry(from: node, to: stream.opener.address, again: Self.openingWait, until: stream.end) {
            let refusal = Result<Message, StreamFailure>.failure(.refused("closed"))
            self.handle(isTaken ? .connected(stream, node) : .outcome(stream.opener, stream.id, refusal))
        }
    }

    /// The opener sends its message, unless it has given up.
    ///
    /// From here on it cannot take the message back: its system goes on sending, and the other side takes what comes
    /// before its own time is over. That began when the last packet of the opening came.
    private func connected(_ stream: SimulatedStream, _ acceptor: Node, _ input: Agenda.Input) {
        let opener = stream.opener
        guard opener.isUp, opener.openStreams.contains(stream.id) else { return }
        if opener.isPaused { return opener.backlog.append(input) }
        let accepted = self.now + self.weather.delay(using: &self.generator)
        self.carry(
            from: opener,
            to: stream.target,
            again: Self.segmentWait,
            until: accepted + acceptor.instance.profile.streamTimeout,
            orElse: { self.answer(stream, from: acceptor, .failure(.refused("closed"))) },
            then: { self.handle(.stream(stream, acceptor)) }
        )
    }

    private func receive(_ stream: SimulatedStream, _ acceptor: Node, _ input: Agenda.Input) {
        guard acceptor.isUp else {
            // The process is gone; a later one at its address knows nothing of the connection.
            guard let host = self.hosts[stream.target] else { return }
            return self.answer(stream, from: host, .failure(.refused("reset")))
        }
        if acceptor.isPaused { return acceptor.backlog.append(input) }
        self.note(stream.id.number)
        var answer: [UInt8]?
        self.drive(acceptor) { instance, now in
            let result = instance.onStreamMessage(stream.message, from: stream.opener.address, now: now)
            answer = result.answer
            return result.directives
        }
        var decoder = StreamDecoder(isAnswer: true)
        let reply = answer.flatMap { try? decoder.receive($0) }
        let outcome = reply.map { Result<Message, StreamFailure>.success($0) } ?? .failure(.refused("closed"))
        self.answer(stream, from: acceptor, outcome)
    }

    private func answer(_ stream: SimulatedStream, from node: Node, _ outcome: Result<Message, StreamFailure>) {
        self.carry(from: node, to: stream.opener.address, again: Self.segmentWait, until: stream.end) {
            self.handle(.outcome(stream.opener, stream.id, outcome))
        }
    }

    /// Brings a segment of a stream over; one that is lost, or meets a cut or no host, is sent again after a while, and
    /// then after twice that each time.
    ///
    /// - Parameters:
    ///   - end: When nobody waits for it any more.
    ///   - giveUp: What happens then if it has not arrived.
    private func carry(
        from source: Node,
        to target: NodeAddress,
        again wait: TimeAmount,
        until end: NIODeadline,
        orElse giveUp: (() -> Void)? = nil,
        then arrive: @escaping () -> Void
    ) {
        guard source.isHostUp else { return }
        let isHost = self.hosts[target]?.isHostUp == true
        let arrives = isHost && !self.cut(source.address, target) && !self.weather.isLost(using: &self.generator)
        let next = self.now + (arrives ? self.weather.delay(using: &self.generator) : wait)
        guard next < end else {
            if let giveUp { self.agenda.add(end, .action(giveUp)) }
            return
        }
        if arrives { return self.agenda.add(next, .action(arrive)) }
        let again = {
            self.carry(from: source, to: target, again: wait + wait, until: end, orElse: giveUp, then: arrive)
        }
        self.agenda.add(next, .action(again))
    }
}

extension MembershipEvent {
    var line: String {
        switch self {
        case .joined(let member): "joined \(member.name) \(member.incarnation)"
        case .updated(let member): "updated \(member.name) \(member.incarnation)"
        case .suspected(let member): "suspected \(member.name) \(member.incarnation)"
        case .failed(let member): "failed \(member.name) \(member.incarnation)"
        case .left(let member): "left \(member.name) \(member.incarnation)"
        case .replaced(let old, let new): "replaced \(new.name) \(old.incarnation) \(new.incarnation)"
        case .nameConflict(let name, let holder, let claimant, let isRefused):
            "conflict \(name) \(holder) \(claimant) \(isRefused ? "refused" : "kept")"
        }
    }

    func isSuspected(_ name: String) -> Bool {
        if case .suspected(let member) = self { member.name == name } else { false }
    }

    var isAnyFailure: Bool { if case .failed = self { true } else { false } }
    var isReplaced: Bool { if case .replaced = self { true } else { false } }
}
