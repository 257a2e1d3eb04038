import Logging
import NIOCore

/// Members that are alive and cannot reach each other: this node asks others to carry its links, and carries theirs.
extension LinkHub {
    /// Who can be asked to carry a link to a member, in the order of their names: those that this node reaches itself.
    func relays(for name: String) -> [OutgoingLink] {
        self.peers.values.map(\.outgoing)
            .filter { $0.name != name && $0.phase == .up && $0.via == nil }
            .sorted { $0.name < $1.name }
    }

    /// A member is gone: what it carries, and what is carried for it or to it, ends.
    func endRelaying(with name: String) {
        for peer in self.peers.values where peer.outgoing.via == name {
            peer.outgoing.fail(LinkError(.silence, "\(name), which carries the link, is gone"))
        }
        self.closeTunnels { $0.call.origin == name || $0.call.target == name }
    }

    /// A member asks this one to carry its link to another. The connection is not a link's any more.
    func relay(_ call: RelayCall, from channel: any Channel) {
        let verdict = self.judge(call)
        guard verdict == .accepted, let target = self.peers[call.target] else {
            channel.send(.relayAnswer(verdict))
            return channel.close(promise: nil)
        }
        // An opener has one link to a member: it has given an earlier one up.
        self.closeTunnels { $0.call.origin == call.origin && $0.call.target == call.target }
        let tunnel = RelayTunnel(call: call, from: channel, hub: self)
        self.tunnels[ObjectIdentifier(tunnel)] = tunnel
        do {
            try tunnel.open(to: target.outgoing.address)
        } catch {
            self.logger.debug("a link cannot be carried", metadata: ["error": "\(error)"])
            tunnel.close()
        }
    }

    private func judge(_ call: RelayCall) -> RelayVerdict {
        if self.isStopping { return .stopping }
        guard let origin = self.peers[call.origin], origin.epoch == call.originEpoch else { return .unknownMember }
        guard let target = self.peers[call.target], target.epoch == call.targetEpoch, target.outgoing.phase == .up,
            target.outgoing.via == nil
        else { return .noLink }
        return self.tunnels.count < self.configuration.tunnelsMax ? .accepted : .tooMany
    }

    func closeTunnels(where isUnwanted: (RelayTunnel) -> Bool) {
        for tunnel in self.tunnels.values where isUnwanted(tunnel) { tunnel.close() }
    }

    func onClosed(_ tunnel: RelayTunnel) {
        self.tunnels[ObjectIdentifier(tunnel)] = nil
    }
}
