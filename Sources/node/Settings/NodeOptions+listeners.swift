import LocalBroker

extension NodeOptions {
    /// The listeners of MQTT clients, in the order of the ready line.
    var listenerSettings: [ListenerSettings] {
        [self.mqttListener.settings, self.mqttsListener.settings, self.wsListener.settings, self.wssListener.settings]
    }

    /// The same as the broker takes them, without those that are off.
    ///
    /// - Parameter anyAddress: what stands for all addresses of this host.
    func brokerListeners(anyAddress: String) -> [BrokerConfiguration.Listener] {
        let tls = self.tls.listenerOptions
        return self.listenerSettings.compactMap { settings in
            guard case .number(let port) = self.port(settings) else { return nil }
            var listener = BrokerConfiguration.Listener(
                name: settings.name,
                host: (settings.bind ?? self.addresses.bind)?.host ?? anyAddress,
                port: port,
                tls: settings.isSecure ? tls : nil,
                webSocket: settings.isWebSocket ? self.wsListener.webSocket : nil,
                acceptsProxyProtocol: settings.proxyProtocol
            )
            listener.anonymous = (settings.anonymous ?? self.access.anonymous)?.policy
            listener.maximumConnections = settings.maxConnections.count
            listener.connectRate = self.limits.connectRate.rate
            return listener
        }
    }

    /// The port that holds for a listener.
    func port(_ settings: ListenerSettings) -> Port {
        settings.port ?? (settings.isSecure && self.tls.listenerOptions == nil ? .off : .number(settings.standardPort))
    }

    /// Listeners that need a certificate and have none, and certificates that no listener needs.
    var listenerConflicts: [String] {
        let secure = self.listenerSettings.filter(\.isSecure)
        guard self.tls.listenerOptions != nil else {
            return secure.compactMap { settings in
                guard case .number? = settings.port else { return nil }
                return "\(settings.name)-port needs a certificate: set tls-cert and tls-key"
            }
        }
        guard secure.allSatisfy({ self.port($0) == .off }) else { return [] }
        return self.tls.dependents.map {
            "\($0) has no effect with mqtts-port off and wss-port off: turn one of them on"
        }
    }

    /// Listeners that cannot all be opened.
    var portConflicts: [String] {
        let bind = self.addresses.bind
        var all = self.listenerSettings.map { ("\($0.name)-port", self.port($0), ($0.bind ?? bind)?.host) }
        if self.addresses.gossipPort != .off {
            all.append(("gossip-port", self.addresses.gossipPort, bind?.host))
            all.append(("link-port", self.addresses.linkPort, bind?.host))
        }
        let fixed = all.filter { $0.1 != .off && $0.1 != .number(0) }
        return fixed.indices.compactMap { index in
            let (key, port, host) = fixed[index]
            let earlier = fixed[..<index].first { $0.1 == port && BindAddress.overlap($0.2, host) }
            guard let earlier else { return nil }
            return "\(key) and \(earlier.0) are both \(port.defaultValueDescription): give each a port of its own"
        }
    }

    /// Listeners that would serve nobody at all.
    var anonymousConflicts: [String] {
        guard !self.access.authenticates, !self.tls.namesClients else { return [] }
        let keys = self.listenerSettings.compactMap { settings -> String? in
            guard self.port(settings) != .off, (settings.anonymous ?? self.access.anonymous) == .nobody else {
                return nil
            }
            return settings.anonymous == nil ? "anonymous" : "\(settings.name)-anonymous"
        }
        return keys.enumerated().filter { keys.firstIndex(of: $1) == $0 }.map {
            "\($1) nobody serves no client, as nothing authenticates any: set password-file, jwt-secret-file or "
                + "jwt-key-file, or another \($1)"
        }
    }
}
