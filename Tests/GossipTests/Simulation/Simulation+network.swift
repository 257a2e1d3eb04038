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
        case .stream(let stream): self.receive(stream, input)
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

    private func open(
        _ id: StreamID,
        _ node: Node,
        _ target: NodeAddress,
        _ bytes: [UInt8],
        _ timeout: TimeAmount
    ) {
        node.openStreams.insert(id)
        let silence = Result<Message, StreamFailure>.failure(.unreachable("no answer in time"))
        self.agenda.add(self.now + timeout, .outcome(node, id, silence))
        var decoder = StreamDecoder()
        // What we write is well-formed; anything else would show as a stream without an answer.
        guard let message = try? decoder.receive(bytes) else { return }
        let stream = SimulatedStream(id: id, opener: node, target: target, message: message)
        self.connect(stream, wait: .seconds(1), until: self.now + timeout)
    }

    /// Opens a connection; one that meets a cut, or a host that is not there, is tried again as TCP does.
    private func connect(_ stream: SimulatedStream, wait: TimeAmount, until end: NIODeadline) {
        guard self.now < end, stream.opener.isUp else { return }
        guard self.isPath(stream.opener.address, stream.target), let node = self.hosts[stream.target], node.isHostUp
        else {
            return self.after(wait) { self.connect(stream, wait: wait + wait, until: end) }
        }
        let there = self.weather.segment(isOpening: true, using: &self.generator)
        let back = self.weather.segment(isOpening: true, using: &self.generator)
        // The opener gives up meanwhile and sends nothing; the other side waits for so long and no longer, too.
        guard self.now + there + back < end else { return }
        if node.isUp {
            let message = self.weather.segment(isOpening: false, using: &self.generator)
            guard message < node.instance.profile.streamTimeout else { return }
            self.agenda.add(self.now + there + back + message, .stream(stream))
        } else {
            self.agenda.add(self.now + there + back, .outcome(stream.opener, stream.id, .failure(.refused("closed"))))
        }
    }

    private func receive(_ stream: SimulatedStream, _ input: Agenda.Input) {
        // Cut off meanwhile, or the host is gone: the opener hears nothing more and gives up in time.
        guard self.isPath(stream.opener.address, stream.target), let node = self.hosts[stream.target], node.isHostUp
        else { return }
        let way = self.weather.segment(isOpening: false, using: &self.generator)
        guard node.isUp else {
            self.agenda.add(self.now + way, .outcome(stream.opener, stream.id, .failure(.refused("reset"))))
            return
        }
        if node.isPaused { return node.backlog.append(input) }
        self.note(stream.id.number)
        var answer: [UInt8]?
        self.drive(node) { instance, now in
            let result = instance.onStreamMessage(stream.message, from: stream.opener.address, now: now)
            answer = result.answer
            return result.directives
        }
        var decoder = StreamDecoder(isAnswer: true)
        let reply = answer.flatMap { try? decoder.receive($0) }
        let outcome = reply.map { Result<Message, StreamFailure>.success($0) } ?? .failure(.refused("closed"))
        self.agenda.add(self.now + way, .action { self.answer(stream, outcome) })
    }

    private func answer(_ stream: SimulatedStream, _ outcome: Result<Message, StreamFailure>) {
        guard self.isPath(stream.opener.address, stream.target) else { return }
        self.handle(.outcome(stream.opener, stream.id, outcome))
    }

    private func isPath(_ one: NodeAddress, _ other: NodeAddress) -> Bool {
        !self.cut(one, other) && !self.cut(other, one)
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

    var isAnyFailure: Bool { if case .failed = self { true } else { false } }
    var isReplaced: Bool { if case .replaced = self { true } else { false } }
}
